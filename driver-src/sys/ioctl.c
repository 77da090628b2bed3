/*
 * ioctl.c: the requests.
 *
 * METHOD_BUFFERED: input and output share one buffer, so a request is copied before an answer is written, and
 * Information never exceeds the output length - Windows copies that many bytes to the caller without a check.
 */
#include "ioctl.h"

#include "answer.h"
#include "cancel.h"
#include "client.h"
#include "device.h"
#include "forward.h"
#include "issue.h"
#include "quiesce.h"
#include "script.h"
#include "submit.h"
#include "wait.h"
#include "wsklab_build.h"

typedef struct REQUEST {
    CLIENT *Client;
    PIRP Irp;
    PUCHAR Buffer; /* input and output */
    ULONG InputBytes;
    ULONG OutputBytes;
    ULONG_PTR Information;
} REQUEST;

/* Copy a request of a fixed size out of the buffer, and check its header. */
static NTSTATUS Take(const REQUEST *Request, VOID *Out, ULONG Size) {
    const WSKLAB_HEADER *header = Out;

    if (Request->InputBytes != Size) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    RtlCopyMemory(Out, Request->Buffer, Size);
    return SubmitCheckHeader(header, Size);
}

static VOID Give(REQUEST *Request, const VOID *Answer, ULONG Size) {
    RtlCopyMemory(Request->Buffer, Answer, Size);
    Request->Information = Size;
}

static NTSTATUS Hello(REQUEST *Request) {
    const PLATFORM *platform = PlatformFacts();
    static const UCHAR digest[32] = WSKLAB_BUILD_DIGEST;
    WSKLAB_HELLO_REQUEST in;
    WSKLAB_HELLO out = {.size = sizeof(out), .abi = WSKLAB_ABI_VERSION};
    CLIENT *client = Request->Client;
    NTSTATUS status = Take(Request, &in, sizeof(in));
    NTSTATUS dacl;
    KIRQL irql;

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    out.submit_size = sizeof(WSKLAB_SUBMIT);
    out.record_size = sizeof(WSKLAB_RECORD);
    out.socket_entry_size = sizeof(WSKLAB_SOCKET_ENTRY);
    out.event_size = sizeof(WSKLAB_EVENT);
    out.ledger_size = sizeof(WSKLAB_LEDGER);
    out.answer_size = sizeof(WSKLAB_ANSWER);
    out.object_entry_size = sizeof(WSKLAB_OBJECT_ENTRY);
    out.max_data = WSKLAB_MAX_DATA;
    out.max_buffer = WSKLAB_MAX_BUFFER;
    out.max_operations = WSKLAB_MAX_OPERATIONS;
    out.max_sockets = WSKLAB_MAX_SOCKETS;
    out.event_capacity = WSKLAB_EVENT_CAPACITY;
    out.os_major = platform->Major;
    out.os_minor = platform->Minor;
    out.os_build = platform->Build;
    out.client_id = client->Id;
    out.flags = DeviceFlags(&dacl) | (platform->Wine ? WSKLAB_HELLO_WINE : 0) |
                (platform->IrqlReal ? WSKLAB_HELLO_IRQL_REAL : 0) |
                (platform->SetCompletionRoutineEx != NULL ? WSKLAB_HELLO_COMPLETION_EX : 0);
    out.dacl_status = dacl;
    out.clients = ClientCount();
    out.grace_ms = WSKLAB_GRACE_MS;
    out.now_ns = PlatformNow();
    out.counter_frequency = platform->CounterFrequency;
    KeAcquireSpinLock(&client->Lock, &irql);
    if (client->State != CLIENT_OPEN) {
        out.flags |= WSKLAB_HELLO_CLOSED;
    }
    if (client->Registration.Captures > 0 && client->Registration.Npi.Dispatch != NULL) {
        out.flags |= WSKLAB_HELLO_CAPTURED;
        out.provider_version = client->Registration.Npi.Dispatch->Version;
    }
    KeReleaseSpinLock(&client->Lock, irql);
    RtlCopyMemory(out.build_digest, digest, sizeof(digest));
    RtlCopyMemory(out.build_label, WSKLAB_BUILD_LABEL, sizeof(WSKLAB_BUILD_LABEL) - 1);
    Give(Request, &out, sizeof(out));
    return STATUS_SUCCESS;
}

_Static_assert(sizeof(WSKLAB_BUILD_LABEL) - 1 <= 32, "the build label has 32 bytes");

/* Takes the operation, its data included, out of the buffer, which an answer may then overwrite. */
static NTSTATUS Launch(REQUEST *Request, WSKLAB_SUBMIT *Submit) {
    OPERATION *operation;
    NTSTATUS status = SubmitCheck(Submit, Request->InputBytes, FALSE);

    if (NT_SUCCESS(status)) {
        status = OperationCreate(Request->Client, Submit, Request->Buffer + sizeof(*Submit), FALSE, &operation);
    }
    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = OperationLaunch(operation);
    if (!NT_SUCCESS(status)) {
        OperationRelease(operation); /* refused: the number is free again */
    }
    OperationDereference(operation);
    return status;
}

static NTSTATUS Submit(REQUEST *Request) {
    WSKLAB_SUBMIT submit;

    if (Request->InputBytes < sizeof(submit)) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    RtlCopyMemory(&submit, Request->Buffer, sizeof(submit));
    return Launch(Request, &submit);
}

/* The request's own IRP goes to WSK. STATUS_PENDING: it has, and is not ours any more. */
static NTSTATUS Forward(REQUEST *Request) {
    WSKLAB_SUBMIT submit;
    OPERATION *operation;
    BOOLEAN given;
    NTSTATUS status;

    if (Request->InputBytes < sizeof(submit)) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    if (Request->OutputBytes != 0) {
        return STATUS_INVALID_PARAMETER; /* Windows would copy Information bytes of the input to the caller */
    }
    RtlCopyMemory(&submit, Request->Buffer, sizeof(submit));
    status = SubmitCheck(&submit, Request->InputBytes, TRUE);
    if (NT_SUCCESS(status)) {
        status = OperationCreate(Request->Client, &submit, Request->Buffer + sizeof(submit), FALSE, &operation);
    }
    if (!NT_SUCCESS(status)) {
        return status;
    }
    status = ForwardPrepare(operation, Request->Irp);
    if (NT_SUCCESS(status)) {
        status = OperationLaunch(operation);
    } else {
        OperationAbandon(operation, status);
    }
    if (!NT_SUCCESS(status)) {
        OperationRelease(operation); /* refused: the number is free again */
    }
    given = operation->Given; /* the call is made in this thread, or never */
    if (!given && NT_SUCCESS(status)) {
        status = operation->Record.driver_status;
    }
    OperationDereference(operation);
    return given ? STATUS_PENDING : status;
}

/* SUBMIT and WAIT in one request: most operations are final when their call returns, and a request costs more than the
 * operation (on Wine several process switches). A refused operation is answered as SUBMIT answers it. */
static NTSTATUS Run(REQUEST *Request) {
    WSKLAB_SUBMIT submit;
    WAIT_REQUEST wait = {.Kind = WAIT_OPERATION, .Room = Request->OutputBytes};
    struct WAIT *prepared;
    NTSTATUS status;

    if (Request->InputBytes < sizeof(submit)) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    RtlCopyMemory(&submit, Request->Buffer, sizeof(submit));
    if (submit.wait_ms > WSKLAB_MAX_TIMEOUT_MS || (submit.wait_flags & ~WSKLAB_RELEASE)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(WSKLAB_RECORD)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    wait.OpId = submit.op_id;
    wait.Flags = submit.wait_flags;
    wait.TimeoutMs = submit.wait_ms;
    submit.wait_ms = 0;
    submit.wait_flags = 0;
    /* First: without it the operation would run, and the caller would hear that the request failed. */
    prepared = WaitPrepare(Request->Client);
    if (prepared == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    status = Launch(Request, &submit);
    if (!NT_SUCCESS(status)) {
        WaitDiscard(prepared);
        return status;
    }
    return WaitSubmit(Request->Client, Request->Irp, &wait, prepared, &Request->Information);
}

static NTSTATUS Wait(REQUEST *Request) {
    WSKLAB_WAIT in;
    WAIT_REQUEST wait = {.Kind = WAIT_OPERATION, .Room = Request->OutputBytes};
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.op_id == 0 || in.timeout_ms > WSKLAB_MAX_TIMEOUT_MS || (in.flags & ~WSKLAB_RELEASE) || in.reserved != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(WSKLAB_RECORD)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    wait.OpId = in.op_id;
    wait.Flags = in.flags;
    wait.TimeoutMs = in.timeout_ms;
    return WaitSubmit(Request->Client, Request->Irp, &wait, NULL, &Request->Information);
}

static NTSTATUS Cancel(REQUEST *Request) {
    WSKLAB_CANCEL in;
    WSKLAB_CANCEL_RESULT out = {0};
    NTSTATUS status = Take(Request, &in, sizeof(in));
    OPERATION *operation;

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.reserved != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    operation = OperationFind(Request->Client, in.op_id);
    if (operation == NULL) {
        return STATUS_NOT_FOUND;
    }
    out.outcome = OperationCancel(operation);
    OperationDereference(operation);
    Give(Request, &out, sizeof(out));
    return STATUS_SUCCESS;
}

static NTSTATUS Fetch(REQUEST *Request) {
    WSKLAB_FETCH in;
    NTSTATUS status = Take(Request, &in, sizeof(in));
    ANSWER_REQUEST answer;
    OPERATION *operation;

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.flags & ~WSKLAB_RELEASE) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(WSKLAB_RECORD)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    operation = OperationFind(Request->Client, in.op_id);
    if (operation == NULL) {
        return STATUS_NOT_FOUND;
    }
    answer = (ANSWER_REQUEST){.DataOffset = in.data_offset, .DataLength = in.data_length, .Release = (in.flags & WSKLAB_RELEASE) != 0};
    Request->Information = AnswerWrite(operation, Request->Buffer, Request->OutputBytes, &answer);
    OperationDereference(operation);
    return STATUS_SUCCESS;
}

static NTSTATUS Events(REQUEST *Request) {
    WSKLAB_EVENTS in;
    WSKLAB_EVENTS_RESULT out = {0};
    NTSTATUS status = Take(Request, &in, sizeof(in));
    ULONG room;

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.reserved != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    room = (ULONG)((Request->OutputBytes - sizeof(out)) / sizeof(WSKLAB_EVENT));
    if (in.max_events != 0 && in.max_events < room) {
        room = in.max_events;
    }
    RingTake(&Request->Client->Ring, (WSKLAB_EVENT *)(Request->Buffer + sizeof(out)), room, &out);
    RtlCopyMemory(Request->Buffer, &out, sizeof(out));
    Request->Information = sizeof(out) + out.count * sizeof(WSKLAB_EVENT);
    return STATUS_SUCCESS;
}

static NTSTATUS Sockets(REQUEST *Request) {
    WSKLAB_SOCKETS in;
    WSKLAB_SOCKETS_RESULT out = {0};
    ULONG total;
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    out.count = SocketList(Request->Client, (WSKLAB_SOCKET_ENTRY *)(Request->Buffer + sizeof(out)),
                           (ULONG)((Request->OutputBytes - sizeof(out)) / sizeof(WSKLAB_SOCKET_ENTRY)), &total);
    out.total = total;
    RtlCopyMemory(Request->Buffer, &out, sizeof(out));
    Request->Information = sizeof(out) + out.count * sizeof(WSKLAB_SOCKET_ENTRY);
    return STATUS_SUCCESS;
}

static NTSTATUS Objects(REQUEST *Request) {
    WSKLAB_OBJECTS in;
    WSKLAB_OBJECTS_RESULT out = {0};
    ULONG total;
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    out.count = ObjectList(Request->Client, (WSKLAB_OBJECT_ENTRY *)(Request->Buffer + sizeof(out)),
                           (ULONG)((Request->OutputBytes - sizeof(out)) / sizeof(WSKLAB_OBJECT_ENTRY)), &total);
    out.total = total;
    RtlCopyMemory(Request->Buffer, &out, sizeof(out));
    Request->Information = sizeof(out) + out.count * sizeof(WSKLAB_OBJECT_ENTRY);
    return STATUS_SUCCESS;
}

static NTSTATUS Script(REQUEST *Request) {
    WSKLAB_ANSWER answers[WSKLAB_MAX_ANSWERS];
    WSKLAB_SCRIPT in;
    WSKLAB_SCRIPT_RESULT out;
    NTSTATUS status;

    if (Request->InputBytes < sizeof(in)) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    RtlCopyMemory(&in, Request->Buffer, sizeof(in));
    status = SubmitCheckHeader(&in.header, sizeof(in));
    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.count > WSKLAB_MAX_ANSWERS) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->InputBytes != sizeof(in) + in.count * sizeof(answers[0])) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(answers, Request->Buffer + sizeof(in), in.count * sizeof(answers[0]));
    status = ScriptCheck(&in, answers);
    if (NT_SUCCESS(status)) {
        status = ScriptSet(Request->Client, &in, answers, &out);
    }
    if (NT_SUCCESS(status)) {
        Give(Request, &out, sizeof(out));
    }
    return status;
}

static NTSTATUS Ledger(REQUEST *Request) {
    WSKLAB_LEDGER_REQUEST in;
    WSKLAB_LEDGERS out;
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    LedgerRead(&Request->Client->Ledger, &out);
    Give(Request, &out, sizeof(out));
    return STATUS_SUCCESS;
}

static NTSTATUS Faults(REQUEST *Request) {
    WSKLAB_FAULTS in;
    WSKLAB_FAULTS_RESULT out = {0};
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Request->OutputBytes < sizeof(out)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    status = FaultsRequest(&Request->Client->Ledger.Faults, &in, &out);
    if (NT_SUCCESS(status)) {
        Give(Request, &out, sizeof(out));
    }
    return status;
}

static NTSTATUS Drain(REQUEST *Request) {
    WSKLAB_DRAIN in;
    WAIT_REQUEST wait = {.Kind = WAIT_DRAIN, .Room = Request->OutputBytes};
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.timeout_ms > WSKLAB_MAX_TIMEOUT_MS || in.reserved != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(WSKLAB_DRAIN_RESULT)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    wait.TimeoutMs = in.timeout_ms;
    return WaitSubmit(Request->Client, Request->Irp, &wait, NULL, &Request->Information);
}

static NTSTATUS Quiesce(REQUEST *Request) {
    WSKLAB_QUIESCE in;
    WAIT_REQUEST wait = {.Kind = WAIT_QUIESCE, .Room = Request->OutputBytes};
    NTSTATUS status = Take(Request, &in, sizeof(in));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (in.timeout_ms > WSKLAB_MAX_TIMEOUT_MS || in.reserved != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->OutputBytes < sizeof(WSKLAB_QUIESCE_RESULT)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    wait.TimeoutMs = in.timeout_ms;
    QuiesceBegin();
    return WaitSubmit(Request->Client, Request->Irp, &wait, NULL, &Request->Information);
}

static NTSTATUS Route(REQUEST *Request, ULONG Code) {
    switch (Code) {
    case IOCTL_WSKLAB_HELLO:
        return Hello(Request);
    case IOCTL_WSKLAB_SUBMIT:
        return Submit(Request);
    case IOCTL_WSKLAB_RUN:
        return Run(Request);
    case IOCTL_WSKLAB_WAIT:
        return Wait(Request);
    case IOCTL_WSKLAB_CANCEL:
        return Cancel(Request);
    case IOCTL_WSKLAB_FETCH:
        return Fetch(Request);
    case IOCTL_WSKLAB_EVENTS:
        return Events(Request);
    case IOCTL_WSKLAB_SOCKETS:
        return Sockets(Request);
    case IOCTL_WSKLAB_LEDGER:
        return Ledger(Request);
    case IOCTL_WSKLAB_DRAIN:
        return Drain(Request);
    case IOCTL_WSKLAB_QUIESCE:
        return Quiesce(Request);
    case IOCTL_WSKLAB_FAULTS:
        return Faults(Request);
    case IOCTL_WSKLAB_FORWARD:
        return Forward(Request);
    case IOCTL_WSKLAB_SCRIPT:
        return Script(Request);
    case IOCTL_WSKLAB_OBJECTS:
        return Objects(Request);
    default:
        return STATUS_INVALID_DEVICE_REQUEST;
    }
}

NTSTATUS NTAPI IoctlDispatch(PDEVICE_OBJECT Device, PIRP Irp) {
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(Irp);
    REQUEST request = {.Irp = Irp,
                       .Buffer = Irp->AssociatedIrp.SystemBuffer,
                       .InputBytes = location->Parameters.DeviceIoControl.InputBufferLength,
                       .OutputBytes = location->Parameters.DeviceIoControl.OutputBufferLength};
    NTSTATUS status = STATUS_DEVICE_NOT_READY;

    UNREFERENCED_PARAMETER(Device);
    DeviceEnter();
    request.Client = ClientFromFile(location->FileObject);
    if (request.Client != NULL) {
        /* The code is looked at as a whole: another access or method than ours is another code. */
        status = request.Buffer == NULL && (request.InputBytes != 0 || request.OutputBytes != 0)
                     ? STATUS_INVALID_PARAMETER
                     : Route(&request, location->Parameters.DeviceIoControl.IoControlCode);
        ClientDereference(request.Client);
    }
    if (status != STATUS_PENDING) {
        Irp->IoStatus.Status = status;
        Irp->IoStatus.Information = NT_SUCCESS(status) ? request.Information : 0;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
    }
    DeviceLeave();
    return status;
}
