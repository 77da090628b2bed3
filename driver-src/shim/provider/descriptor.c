/*
 * descriptor.c: security descriptors that WSK has cached for a client.
 *
 * Who shares an address is the only thing that they decide here (BIND-008), so of a descriptor only the access list is
 * looked at, and of that only entries that allow. Every socket's security context is that of an administrator: nobody
 * else can open the driver's device, and the threads of the system are.
 */
#include "descriptor.h"

#include "client.h"

/* SECURITY_DESCRIPTOR of ntifs.h: absolute, or self-relative with offsets in place of the pointers. */
typedef struct ABSOLUTE_DESCRIPTOR {
    UCHAR Revision;
    UCHAR Sbz1;
    USHORT Control;
    PVOID Owner;
    PVOID Group;
    PACL Sacl;
    PACL Dacl;
} ABSOLUTE_DESCRIPTOR;

typedef struct RELATIVE_DESCRIPTOR {
    UCHAR Revision;
    UCHAR Sbz1;
    USHORT Control;
    ULONG Owner;
    ULONG Group;
    ULONG Sacl;
    ULONG Dacl;
} RELATIVE_DESCRIPTOR;
#define DACL_PRESENT 0x0004u
#define SELF_RELATIVE 0x8000u

typedef struct ALLOWED_ACE {
    UCHAR Type;
    UCHAR Flags;
    USHORT Size;
    ULONG Mask;
    UCHAR Sid[];
} ALLOWED_ACE;
#define ACE_ALLOWED 0

/* What the client holds is `Public`; the rest is found from it. */
typedef struct CACHED {
    ABSOLUTE_DESCRIPTOR Public;
    LIST_ENTRY Link; /* among those of the client */
    WSKP_CLIENT *Client;
    LONG Holds; /* of the client: each is to be given back with WSK_RELEASE_SD */
    LONG Users; /* sockets */
    UCHAR Acl[];
} CACHED;

static PACL DaclOf(PSECURITY_DESCRIPTOR descriptor, BOOLEAN *present) {
    const ABSOLUTE_DESCRIPTOR *absolute = descriptor;
    const RELATIVE_DESCRIPTOR *relative = descriptor;

    *present = (absolute->Control & DACL_PRESENT) != 0;
    if (!*present) {
        return NULL;
    }
    if (absolute->Control & SELF_RELATIVE) {
        return relative->Dacl == 0 ? NULL : (PACL)((PUCHAR)descriptor + relative->Dacl);
    }
    return absolute->Dacl;
}

PSECURITY_DESCRIPTOR WskpDescriptorCache(WSKP_CLIENT *client, PSECURITY_DESCRIPTOR uncached, NTSTATUS *status) {
    BOOLEAN present;
    USHORT size;
    PACL acl;
    CACHED *cached;

    ShimRequireMemory("SECURITY_DESCRIPTOR", uncached, sizeof(RELATIVE_DESCRIPTOR));
    if (((const ABSOLUTE_DESCRIPTOR *)uncached)->Revision != SECURITY_DESCRIPTOR_REVISION) {
        *status = STATUS_INVALID_SECURITY_DESCR;
        return NULL;
    }
    acl = DaclOf(uncached, &present);
    size = acl == NULL ? 0 : acl->AclSize;
    cached = ShimAllocate("cached security descriptor", sizeof(*cached) + size);
    if (cached == NULL) {
        *status = STATUS_INSUFFICIENT_RESOURCES;
        return NULL;
    }
    if (size > 0) {
        memcpy(cached->Acl, acl, size);
    }
    cached->Public.Revision = SECURITY_DESCRIPTOR_REVISION;
    cached->Public.Control = present ? DACL_PRESENT : 0;
    cached->Public.Dacl = size == 0 ? NULL : (PACL)cached->Acl;
    cached->Client = client;
    cached->Holds = 1;
    InsertTailList(&client->Descriptors, &cached->Link);
    *status = STATUS_SUCCESS;
    return &cached->Public;
}

/* NULL when the pointer is none of the client's cached descriptors. */
static CACHED *Find(WSKP_CLIENT *client, PSECURITY_DESCRIPTOR descriptor) {
    for (PLIST_ENTRY entry = client->Descriptors.Flink; entry != &client->Descriptors; entry = entry->Flink) {
        CACHED *cached = CONTAINING_RECORD(entry, CACHED, Link);
        if (&cached->Public == descriptor) {
            return cached;
        }
    }
    return NULL;
}

static void FreeIfUnused(CACHED *cached) {
    if (cached->Holds == 0 && cached->Users == 0) {
        RemoveEntryList(&cached->Link);
        ShimFree(cached);
    }
}

void WskpDescriptorRelease(WSKP_CLIENT *client, PSECURITY_DESCRIPTOR descriptor) {
    CACHED *cached = Find(client, descriptor);
    if (cached == NULL || cached->Holds == 0) {
        WskpClientError("WSK-CTL-004", "WSK_RELEASE_SD of %p, which the client does not hold", descriptor);
    }
    cached->Holds--;
    FreeIfUnused(cached);
}

void WskpDescriptorHandOut(PSECURITY_DESCRIPTOR descriptor) {
    CONTAINING_RECORD(descriptor, CACHED, Public)->Holds++;
}

void WskpDescriptorReference(const char *function, WSKP_CLIENT *client, PSECURITY_DESCRIPTOR descriptor) {
    CACHED *cached = Find(client, descriptor);
    if (cached == NULL || cached->Holds == 0) {
        WskpClientError("WSK-SOCK-013", "%s: the security descriptor %p is no copy cached by WSK_CACHE_SD", function, descriptor);
    }
    cached->Users++;
}

void WskpDescriptorDereference(PSECURITY_DESCRIPTOR descriptor) {
    CACHED *cached = CONTAINING_RECORD(descriptor, CACHED, Public);
    cached->Users--;
    FreeIfUnused(cached);
}

/* Everyone, authenticated users, the system, administrators. */
static BOOLEAN IsOurs(const UCHAR *sid, USHORT size) {
    static const UCHAR everyone[] = {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
    static const UCHAR authenticated[] = {1, 1, 0, 0, 0, 0, 0, 5, 11, 0, 0, 0};
    static const UCHAR localSystem[] = {1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0};
    static const UCHAR administrators[] = {1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0};
    static const struct {
        const UCHAR *Sid;
        USHORT Size;
    } ours[] = {{everyone, sizeof(everyone)},
                {authenticated, sizeof(authenticated)},
                {localSystem, sizeof(localSystem)},
                {administrators, sizeof(administrators)}};

    for (ULONG index = 0; index < RTL_NUMBER_OF(ours); index++) {
        if (size >= ours[index].Size && memcmp(sid, ours[index].Sid, ours[index].Size) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN WskpDescriptorGrants(PSECURITY_DESCRIPTOR descriptor, PEPROCESS process) {
    BOOLEAN present;
    PUCHAR place;
    PACL acl;

    (void)process;
    if (descriptor == NULL) {
        return MutantIs("WSK-BIND-008/default-shares"); /* the default descriptor refuses */
    }
    acl = DaclOf(descriptor, &present);
    if (!present || acl == NULL) {
        return TRUE; /* no access list: everybody */
    }
    place = (PUCHAR)(acl + 1);
    for (USHORT index = 0; index < acl->AceCount; index++) {
        const ALLOWED_ACE *ace = (const ALLOWED_ACE *)place;
        if (ace->Type == ACE_ALLOWED && ace->Mask != 0 && IsOurs(ace->Sid, (USHORT)(ace->Size - sizeof(*ace)))) {
            return !MutantIs("WSK-BIND-008/descriptor-ignored");
        }
        place += ace->Size;
    }
    return FALSE;
}

void WskpDescriptorsRequireNone(WSKP_CLIENT *client) {
    if (!IsListEmpty(&client->Descriptors)) {
        CACHED *cached = CONTAINING_RECORD(client->Descriptors.Flink, CACHED, Link);
        WskpClientError("WSK-CTL-004", "the client ends and has not released the cached security descriptor %p (%d times)",
                        (void *)&cached->Public, cached->Holds);
    }
}
