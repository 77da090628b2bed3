/*
 * failures.c: deliberate failures.
 *
 * Each is made so that nothing has to be lucky: what Windows and Driver Verifier, Wine and the kernel shim do about it
 * stands with the numbers in docs/verdicts.md.
 */
#include "failures.h"

#ifdef WSKLAB_FAILURES

#include "memory.h"
#include "threads.h"

#define GARBAGE 0xCCu
/* So large that a heap gives the pages back when it is freed: touching it is a fault, with special pool and without. */
#define LARGE_BLOCK (4u * 1024u * 1024u)
#define OVERRUN 1024u

typedef VOID(NTAPI *PFN_BUGCHECK)(ULONG Code, ULONG_PTR First, ULONG_PTR Second, ULONG_PTR Third, ULONG_PTR Fourth);

/* Compilers refuse to compile what they can see to be wrong. */
static volatile ULONG *volatile g_Nowhere;
static volatile LONG g_Never;

static VOID WriteToNull(VOID) {
    *g_Nowhere = GARBAGE;
}

static NTSTATUS UseAfterFree(VOID) {
    volatile UCHAR *block = ExAllocatePoolWithTag(NonPagedPoolNx, LARGE_BLOCK, WSKLAB_POOL_TAG);

    if (block == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    block[LARGE_BLOCK / 2] = 1;
    ExFreePoolWithTag((PVOID)block, WSKLAB_POOL_TAG);
    block[LARGE_BLOCK / 2] = GARBAGE;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Keep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* An IRP whose owner has it back and uses its memory for something else is completed once more. */
static NTSTATUS CompleteTwice(VOID) {
    USHORT size = IoSizeOfIrp(1);
    PIRP irp = ExAllocatePoolWithTag(NonPagedPoolNx, size, WSKLAB_POOL_TAG);

    if (irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IoInitializeIrp(irp, size, 1);
    IoSetCompletionRoutine(irp, Keep, NULL, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    RtlFillMemory(irp, size, GARBAGE);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static VOID Spin(VOID) {
    while (g_Never == 0) {
        YieldProcessor();
    }
}

/* Two threads and two locks, each thread with the lock that the other one wants. */
typedef struct EMBRACE {
    KEVENT Lock[2];
    KEVENT Has[2];
} EMBRACE;

static VOID Embrace(EMBRACE *Embrace, ULONG Own) {
    KeWaitForSingleObject(&Embrace->Lock[Own], Executive, KernelMode, FALSE, NULL);
    KeSetEvent(&Embrace->Has[Own], IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(&Embrace->Has[1 - Own], Executive, KernelMode, FALSE, NULL);
    KeWaitForSingleObject(&Embrace->Lock[1 - Own], Executive, KernelMode, FALSE, NULL);
}

static VOID Other(PVOID Context) {
    Embrace(Context, 1);
}

static NTSTATUS Deadlock(LEDGER *Ledger) {
    EMBRACE *embrace = MemoryAllocate(Ledger, sizeof(*embrace));
    NTSTATUS status;

    if (embrace == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (ULONG i = 0; i < 2; i++) {
        KeInitializeEvent(&embrace->Lock[i], SynchronizationEvent, TRUE);
        KeInitializeEvent(&embrace->Has[i], SynchronizationEvent, FALSE);
    }
    status = ThreadStart(Ledger, Other, embrace);
    if (!NT_SUCCESS(status)) {
        MemoryFree(embrace);
        return status;
    }
    Embrace(embrace, 0);
    return STATUS_SUCCESS;
}

static __attribute__((noinline)) VOID Scribble(volatile UCHAR *Bytes, ULONG Count) {
    for (ULONG i = 0; i < Count; i++) {
        Bytes[i] = GARBAGE;
    }
}

/* Everything above a small array, return addresses included. */
static __attribute__((noinline)) NTSTATUS OverrunStack(VOID) {
    UCHAR small[16];

    Scribble(small, OVERRUN);
    return small[0] == GARBAGE ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

/* Looked up: the driver that is deployed does not import it. */
static NTSTATUS BugCheck(const WSKLAB_SUBMIT *Submit) {
    UNICODE_STRING name;
    PFN_BUGCHECK routine;

    RtlInitUnicodeString(&name, L"KeBugCheckEx");
    routine = (PFN_BUGCHECK)MmGetSystemRoutineAddress(&name);
    if (routine == NULL) {
        return STATUS_PROCEDURE_NOT_FOUND;
    }
    routine(Submit->flags, Submit->protocol, (ULONG_PTR)Submit->socket_context, 0, 0);
    return STATUS_SUCCESS;
}

BOOLEAN FailureIsOffered(ULONG Function) {
    return Function >= WSKLAB_FN_FAIL_NULL && Function <= WSKLAB_FN_FAIL_BUGCHECK;
}

_Use_decl_annotations_ NTSTATUS FailureRun(OPERATION *Operation) {
    LogLine("client %u: operation %u fails on purpose (function %u)\n", Operation->Client->Id, Operation->Submit.op_id,
            Operation->Submit.function);
    switch (Operation->Submit.function) {
    case WSKLAB_FN_FAIL_NULL:
        WriteToNull();
        return STATUS_SUCCESS;
    case WSKLAB_FN_FAIL_USE_AFTER_FREE:
        return UseAfterFree();
    case WSKLAB_FN_FAIL_DOUBLE_COMPLETION:
        return CompleteTwice();
    case WSKLAB_FN_FAIL_SPIN:
        Spin();
        return STATUS_SUCCESS;
    case WSKLAB_FN_FAIL_DEADLOCK:
        return Deadlock(&Operation->Client->Ledger);
    case WSKLAB_FN_FAIL_LEAK:
        return MemoryAllocate(&Operation->Client->Ledger, LARGE_BLOCK) != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    case WSKLAB_FN_FAIL_STACK_OVERRUN:
        return OverrunStack();
    default:
        return BugCheck(&Operation->Submit);
    }
}

#endif
