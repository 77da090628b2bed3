/*
 * irp.c: IRPs: made, looked at, moved along their stack locations, cancelled, freed. complete.c completes them.
 */
#include "internal.h"

#include <stdlib.h>

#define BUCKETS 1024

static pthread_mutex_t g_Lock = PTHREAD_MUTEX_INITIALIZER;
static IRP_INFO *g_Infos[BUCKETS];
static KSPIN_LOCK g_CancelLock;

static IRP_INFO **Bucket(const void *irp) {
    return &g_Infos[((uintptr_t)irp >> 4) * 0x9E3779B97F4A7C15ull >> 54];
}

/* With the lock. */
static IRP_INFO *Find(const void *irp) {
    IRP_INFO *info = *Bucket(irp);

    while (info != NULL && info->Irp != irp) {
        info = info->Next;
    }
    return info;
}

IRP_INFO *IrpInfo(const char *function, PIRP irp) {
    IRP_INFO *info;

    pthread_mutex_lock(&g_Lock);
    info = Find(irp);
    if (info != NULL) {
        info->References++;
    }
    pthread_mutex_unlock(&g_Lock);
    if (info == NULL) {
        ShimAbort("irp-unknown", "%s of %p, which is no IRP (any more)", function, (void *)irp);
    }
    ShimRequireMemory("an IRP", irp, sizeof(*irp));
    if (irp->Type != IO_TYPE_IRP || irp->StackCount != info->StackCount) {
        ShimAbort("irp-unknown", "%s of the IRP at %p, whose memory was overwritten", function, (void *)irp);
    }
    return info;
}

/* With the lock. */
static void Drop(IRP_INFO *info) {
    if (--info->References == 0) {
        free(info);
    }
}

void IrpInfoRelease(IRP_INFO *info) {
    pthread_mutex_lock(&g_Lock);
    Drop(info);
    pthread_mutex_unlock(&g_Lock);
}

/* With the lock: out of the table; whoever still has a reference sees that it is gone. */
static void Remove(IRP_INFO *info) {
    IRP_INFO **link = Bucket(info->Irp);

    while (*link != info) {
        link = &(*link)->Next;
    }
    *link = info->Next;
    info->State = IRP_GONE;
    Drop(info);
}

IRP_INFO *IrpRegister(PIRP irp, IRP_KIND kind, CCHAR stackCount, const void *owner) {
    IRP_INFO *info = calloc(1, sizeof(*info));
    IRP_INFO *old;

    *info = (IRP_INFO){.References = 1, .Irp = irp, .Kind = kind, .State = IRP_IDLE, .StackCount = stackCount, .Owner = owner};
    StackCapture(info->Maker, FRAMES);
    pthread_mutex_lock(&g_Lock);
    old = Find(irp);
    if (old != NULL && old->State == IRP_SENT) {
        pthread_mutex_unlock(&g_Lock);
        ShimAbort("irp-in-use", "IoInitializeIrp of an IRP that is with somebody");
    }
    if (old != NULL) {
        Remove(old);
    }
    info->Next = *Bucket(irp);
    *Bucket(irp) = info;
    pthread_mutex_unlock(&g_Lock);
    return info;
}

void IrpSetState(IRP_INFO *info, IRP_STATE state) {
    pthread_mutex_lock(&g_Lock);
    info->State = state;
    pthread_mutex_unlock(&g_Lock);
}

ULONG IrpBeginCompletion(IRP_INFO *info) {
    ULONG completion;

    pthread_mutex_lock(&g_Lock);
    completion = __atomic_add_fetch(&info->Completions, 1, __ATOMIC_SEQ_CST);
    info->State = IRP_COMPLETING;
    pthread_mutex_unlock(&g_Lock);
    return completion;
}

void IrpKeep(IRP_INFO *info, ULONG completion) {
    pthread_mutex_lock(&g_Lock);
    if (__atomic_load_n(&info->Completions, __ATOMIC_SEQ_CST) == completion) {
        if (info->State == IRP_COMPLETING) {
            info->State = info->Kind == IRP_IO_MANAGER ? IRP_SENT : IRP_IDLE;
        }
        __atomic_store_n(&info->InRoutine, FALSE, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&g_Lock);
}

IRP_STATE IrpState(IRP_INFO *info) {
    IRP_STATE state;

    pthread_mutex_lock(&g_Lock);
    state = info->State;
    pthread_mutex_unlock(&g_Lock);
    return state;
}

void IrpForgetIn(const void *memory, size_t size) {
    const IRP_INFO *busy = NULL;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < BUCKETS; i++) {
        IRP_INFO *next;
        for (IRP_INFO *info = g_Infos[i]; info != NULL; info = next) {
            next = info->Next;
            if ((const char *)info->Irp < (const char *)memory || (const char *)info->Irp >= (const char *)memory + size) {
                continue;
            }
            if (info->State == IRP_SENT) {
                busy = info;
            } else {
                Remove(info);
            }
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (busy != NULL) {
        ShimAbort("irp-in-use", "the memory of an IRP is freed while the IRP is with somebody");
    }
}

void IrpRequireNoneOf(const void *low, const void *high, const char *who) {
    char made[600] = "";
    ULONG count = 0;

    pthread_mutex_lock(&g_Lock);
    for (ULONG i = 0; i < BUCKETS; i++) {
        for (const IRP_INFO *info = g_Infos[i]; info != NULL; info = info->Next) {
            if (low == NULL || (info->Owner >= low && info->Owner < high)) {
                count++;
                StackDescribe(made, sizeof(made), info->Maker, 6);
            }
        }
    }
    pthread_mutex_unlock(&g_Lock);
    if (count > 0) {
        ShimAbort("leak-irp", "%s has gone and left %u IRPs behind; one was made at %s", who, count, made);
    }
}

void IrpInitializeLayout(PIRP irp, USHORT size, CCHAR stackCount) {
    memset(irp, 0, size);
    irp->Type = IO_TYPE_IRP;
    irp->Size = size;
    irp->StackCount = stackCount;
    irp->CurrentLocation = (CHAR)(stackCount + 1);
    InitializeListHead(&irp->ThreadListEntry);
    irp->Tail.Overlay.CurrentStackLocation = (PIO_STACK_LOCATION)(irp + 1) + stackCount;
}

PIRP NTAPI IoAllocateIrp(CCHAR StackSize, BOOLEAN ChargeQuota) {
    PIRP irp;

    UNREFERENCED_PARAMETER(ChargeQuota);
    ShimRequireIrql("IoAllocateIrp", DISPATCH_LEVEL);
    if (StackSize < 1) {
        ShimAbort("irp-stack", "IoAllocateIrp with %d stack locations", StackSize);
    }
    ShimYield("IoAllocateIrp");
    irp = MemoryGet(MEMORY_IRP, IoSizeOfIrp(StackSize), 0, "IoAllocateIrp", CALLER());
    if (irp != NULL) {
        IrpInitializeLayout(irp, IoSizeOfIrp(StackSize), StackSize);
        IrpRegister(irp, IRP_ALLOCATED, StackSize, CALLER());
    }
    return irp;
}

VOID NTAPI IoInitializeIrp(PIRP Irp, USHORT PacketSize, CCHAR StackSize) {
    ShimRequireIrql("IoInitializeIrp", DISPATCH_LEVEL);
    if (StackSize < 1 || PacketSize < IoSizeOfIrp(StackSize)) {
        ShimAbort("irp-stack", "IoInitializeIrp: %u bytes for %d stack locations", PacketSize, StackSize);
    }
    ShimRequireNonPaged("an IRP", Irp, PacketSize);
    if (MemoryIs(MEMORY_IRP, Irp)) {
        ShimAbort("irp-kind", "IoInitializeIrp of an IRP that IoAllocateIrp made");
    }
    IrpInitializeLayout(Irp, PacketSize, StackSize);
    IrpRegister(Irp, IRP_CALLER_MEMORY, StackSize, CALLER());
}

VOID NTAPI IoReuseIrp(PIRP Irp, NTSTATUS Status) {
    IRP_INFO *info = IrpInfo("IoReuseIrp", Irp);

    ShimRequireIrql("IoReuseIrp", DISPATCH_LEVEL);
    if (info->Kind == IRP_IO_MANAGER) {
        ShimAbort("irp-kind", "IoReuseIrp of an IRP that the I/O manager made");
    }
    if (IrpState(info) == IRP_SENT) {
        ShimAbort("irp-in-use", "IoReuseIrp of an IRP that is with somebody");
    }
    if (Irp->CancelRoutine != NULL) {
        ShimAbort("cancel-routine", "IoReuseIrp of an IRP with a cancel routine");
    }
    IrpInitializeLayout(Irp, Irp->Size, Irp->StackCount);
    Irp->IoStatus.Status = Status;
    IrpInfoRelease(info);
}

VOID NTAPI IoFreeIrp(PIRP Irp) {
    IRP_INFO *info = IrpInfo("IoFreeIrp", Irp);

    ShimRequireIrql("IoFreeIrp", DISPATCH_LEVEL);
    if (info->Kind != IRP_ALLOCATED) {
        ShimAbort("irp-kind", "IoFreeIrp of an IRP that IoAllocateIrp did not make");
    }
    if (IrpState(info) == IRP_SENT) {
        ShimAbort("irp-in-use", "IoFreeIrp of an IRP that is with somebody");
    }
    if (Irp->CancelRoutine != NULL) {
        ShimAbort("cancel-routine", "IoFreeIrp of an IRP with a cancel routine");
    }
    ShimYield("IoFreeIrp");
    pthread_mutex_lock(&g_Lock);
    Remove(info);
    Drop(info);
    pthread_mutex_unlock(&g_Lock);
    MemoryPut(MEMORY_IRP, Irp, 0, "IoFreeIrp");
}

/* ---- Stack locations ------------------------------------------------------------------------------------------------- */

static void RequireLocation(const char *function, const IRP *irp, int location) {
    ShimRequireMemory("an IRP", irp, sizeof(*irp));
    if (location < 1 || location > irp->StackCount) {
        ShimAbort("irp-stack", "%s: stack location %d of an IRP with %d", function, location, irp->StackCount);
    }
}

PIO_STACK_LOCATION NTAPI IoGetCurrentIrpStackLocation(PIRP Irp) {
    RequireLocation("IoGetCurrentIrpStackLocation", Irp, Irp->CurrentLocation);
    return Irp->Tail.Overlay.CurrentStackLocation;
}

PIO_STACK_LOCATION NTAPI IoGetNextIrpStackLocation(PIRP Irp) {
    RequireLocation("IoGetNextIrpStackLocation", Irp, Irp->CurrentLocation - 1);
    return Irp->Tail.Overlay.CurrentStackLocation - 1;
}

VOID NTAPI IoSetNextIrpStackLocation(PIRP Irp) {
    RequireLocation("IoSetNextIrpStackLocation", Irp, Irp->CurrentLocation - 1);
    Irp->CurrentLocation--;
    Irp->Tail.Overlay.CurrentStackLocation--;
}

VOID NTAPI IoSkipCurrentIrpStackLocation(PIRP Irp) {
    RequireLocation("IoSkipCurrentIrpStackLocation", Irp, Irp->CurrentLocation);
    Irp->CurrentLocation++;
    Irp->Tail.Overlay.CurrentStackLocation++;
}

VOID NTAPI IoCopyCurrentIrpStackLocationToNext(PIRP Irp) {
    PIO_STACK_LOCATION current = IoGetCurrentIrpStackLocation(Irp);
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(Irp);

    memcpy(next, current, offsetof(IO_STACK_LOCATION, CompletionRoutine));
    next->Control = 0;
}

VOID NTAPI IoMarkIrpPending(PIRP Irp) {
    IoGetCurrentIrpStackLocation(Irp)->Control |= SL_PENDING_RETURNED;
}

VOID NTAPI IoSetCompletionRoutine(PIRP Irp, PIO_COMPLETION_ROUTINE CompletionRoutine, PVOID Context, BOOLEAN InvokeOnSuccess,
                                  BOOLEAN InvokeOnError, BOOLEAN InvokeOnCancel) {
    PIO_STACK_LOCATION next;

    if (CompletionRoutine == NULL && (InvokeOnSuccess || InvokeOnError || InvokeOnCancel)) {
        ShimAbort("completion-routine", "IoSetCompletionRoutine without a routine that is to be called");
    }
    IrpInfoRelease(IrpInfo("IoSetCompletionRoutine", Irp));
    next = IoGetNextIrpStackLocation(Irp);
    next->CompletionRoutine = CompletionRoutine;
    next->Context = Context;
    next->Control = (UCHAR)((InvokeOnSuccess ? SL_INVOKE_ON_SUCCESS : 0) | (InvokeOnError ? SL_INVOKE_ON_ERROR : 0) |
                            (InvokeOnCancel ? SL_INVOKE_ON_CANCEL : 0));
    if (Context != NULL && MemoryIsPaged(Context, 1)) {
        ShimAbort("pageable", "the context of a completion routine lies in paged pool; completions come at DISPATCH_LEVEL");
    }
}

/* ---- Cancelling -------------------------------------------------------------------------------------------------------- */

static void InitializeCancelLock(void) {
    KeInitializeSpinLock(&g_CancelLock);
}

VOID NTAPI IoAcquireCancelSpinLock(PKIRQL Irql) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, InitializeCancelLock);
    KeAcquireSpinLock(&g_CancelLock, Irql);
}

VOID NTAPI IoReleaseCancelSpinLock(KIRQL Irql) {
    KeReleaseSpinLock(&g_CancelLock, Irql);
}

PDRIVER_CANCEL NTAPI IoSetCancelRoutine(PIRP Irp, PDRIVER_CANCEL CancelRoutine) {
    IRP_INFO *info = IrpInfo("IoSetCancelRoutine", Irp);

    ShimRequireIrql("IoSetCancelRoutine", DISPATCH_LEVEL);
    if (CancelRoutine != NULL && IrpState(info) != IRP_SENT) {
        ShimAbort("cancel-routine", "IoSetCancelRoutine on an IRP that the caller does not hold for somebody");
    }
    IrpInfoRelease(info);
    ShimYield("IoSetCancelRoutine");
    return (PDRIVER_CANCEL)(uintptr_t)__atomic_exchange_n((void **)(uintptr_t)&Irp->CancelRoutine,
                                                          (void *)(uintptr_t)CancelRoutine, __ATOMIC_SEQ_CST);
}

BOOLEAN NTAPI IoCancelIrp(PIRP Irp) {
    IRP_INFO *info = IrpInfo("IoCancelIrp", Irp);
    PDRIVER_CANCEL routine;
    SHIM_CALLOUT callout;
    PDEVICE_OBJECT device;
    KIRQL irql;

    ShimRequireIrql("IoCancelIrp", DISPATCH_LEVEL);
    LocksRequireNone("IoCancelIrp");
    ShimYield("IoCancelIrp");
    IoAcquireCancelSpinLock(&irql);
    if (IrpState(info) == IRP_GONE) {
        ShimAbort("irp-unknown", "IoCancelIrp of an IRP that was freed meanwhile");
    }
    __atomic_store_n(&Irp->Cancel, TRUE, __ATOMIC_SEQ_CST);
    routine = IoSetCancelRoutine(Irp, NULL);
    IrpInfoRelease(info);
    if (routine == NULL) {
        IoReleaseCancelSpinLock(irql);
        return FALSE;
    }
    if (Irp->CurrentLocation > Irp->StackCount) {
        ShimAbort("cancel-routine", "an IRP that nobody holds has a cancel routine");
    }
    Irp->CancelIrql = irql;
    device = IoGetCurrentIrpStackLocation(Irp)->DeviceObject;
    CalloutBeginLocked(&callout, "a cancel routine", irql);
    routine(device, Irp);
    ShimCalloutEnd(&callout);
    return TRUE;
}
