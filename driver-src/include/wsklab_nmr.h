/*
 * wsklab_nmr.h: the Network Module Registrar for mingw-w64, which has no netioddk.h: what a client of an NPI needs.
 *
 * Needs wsklab_wsk.h. Names, order and meaning from the documentation pages nf-netioddk-*, nc-netioddk-* and
 * ns-netioddk-*; sizes computed by the x64 rules.
 */
#ifndef WSKLAB_NMR_H
#define WSKLAB_NMR_H

#include "wsklab_wsk.h"

typedef enum _NPI_MODULEID_TYPE { MIT_GUID = 1, MIT_IF_LUID } NPI_MODULEID_TYPE;

typedef struct _NPI_MODULEID {
    USHORT Length;
    NPI_MODULEID_TYPE Type;
    union {
        GUID Guid;
        LUID IfLuid;
    };
} NPI_MODULEID, *PNPI_MODULEID;
typedef const NPI_MODULEID *PCNPI_MODULEID;

typedef struct _NPI_REGISTRATION_INSTANCE {
    USHORT Version;
    USHORT Size;
    PNPIID NpiId;
    PCNPI_MODULEID ModuleId;
    ULONG Number;
    const VOID *NpiSpecificCharacteristics;
} NPI_REGISTRATION_INSTANCE, *PNPI_REGISTRATION_INSTANCE;

typedef NTSTATUS(NTAPI *PNPI_CLIENT_ATTACH_PROVIDER_FN)(HANDLE NmrBindingHandle, PVOID ClientContext,
                                                        PNPI_REGISTRATION_INSTANCE ProviderRegistrationInstance);
typedef NTSTATUS(NTAPI *PNPI_CLIENT_DETACH_PROVIDER_FN)(PVOID ClientBindingContext);
typedef VOID(NTAPI *PNPI_CLIENT_CLEANUP_BINDING_CONTEXT_FN)(PVOID ClientBindingContext);

typedef struct _NPI_CLIENT_CHARACTERISTICS {
    USHORT Version;
    USHORT Length;
    PNPI_CLIENT_ATTACH_PROVIDER_FN ClientAttachProvider;
    PNPI_CLIENT_DETACH_PROVIDER_FN ClientDetachProvider;
    PNPI_CLIENT_CLEANUP_BINDING_CONTEXT_FN ClientCleanupBindingContext;
    NPI_REGISTRATION_INSTANCE ClientRegistrationInstance;
} NPI_CLIENT_CHARACTERISTICS, *PNPI_CLIENT_CHARACTERISTICS;

/* Exported by NETIO.SYS; on Wine they are stubs that raise. */
NTSTATUS NTAPI NmrRegisterClient(const NPI_CLIENT_CHARACTERISTICS *ClientCharacteristics, PVOID ClientContext,
                                 PHANDLE NmrClientHandle);
NTSTATUS NTAPI NmrDeregisterClient(HANDLE NmrClientHandle);
NTSTATUS NTAPI NmrWaitForClientDeregisterComplete(HANDLE NmrClientHandle);
NTSTATUS NTAPI NmrClientAttachProvider(HANDLE NmrBindingHandle, PVOID ClientBindingContext, const VOID *ClientDispatch,
                                       PVOID *ProviderBindingContext, const VOID **ProviderDispatch);
VOID NTAPI NmrClientDetachProviderComplete(HANDLE NmrBindingHandle);

WSK_ASSERT_SIZE(NPI_MODULEID, 24);
WSK_ASSERT_OFFSET(NPI_MODULEID, Guid, 8);
WSK_ASSERT_SIZE(NPI_REGISTRATION_INSTANCE, 40);
WSK_ASSERT_OFFSET(NPI_REGISTRATION_INSTANCE, NpiSpecificCharacteristics, 32);
WSK_ASSERT_SIZE(NPI_CLIENT_CHARACTERISTICS, 72);
WSK_ASSERT_OFFSET(NPI_CLIENT_CHARACTERISTICS, ClientRegistrationInstance, 32);

#endif
