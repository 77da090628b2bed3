/*
 * provider_client.c: a small client of WSK for the provider's tests.
 */
#include "provider_client.h"

/* ---- Operations ---------------------------------------------------------------------------------------------------- */

LONG NextSequence(void) {
    static volatile LONG sequence;
    return InterlockedIncrement(&sequence);
}

static NTSTATUS NTAPI Completed(PDEVICE_OBJECT device, PIRP irp, PVOID context) {
    OPERATION *operation = context;

    CHECK(device == NULL && irp == operation->Irp);
    operation->Status = irp->IoStatus.Status;
    operation->Information = irp->IoStatus.Information;
    operation->PendingReturned = irp->PendingReturned;
    operation->Irql = KeGetCurrentIrql();
    operation->Sequence = NextSequence();
    CHECK_EQUAL(irp->CurrentLocation, irp->StackCount + 1); /* IRP-005 */
    operation->Completions++;
    if (operation->Then != NULL) {
        operation->Then(operation, operation->Context);
    }
    KeSetEvent(&operation->Done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

PIRP OperationStart(OPERATION *operation) {
    operation->Irp = IoAllocateIrp(1, FALSE);
    if (operation->Irp == NULL) {
        operation->Irp = IoAllocateIrp(1, FALSE); /* the sweep of failures means the provider's, and fails once */
    }
    CHECK(operation->Irp != NULL);
    operation->Irp->IoStatus.Information = 0xDEADBEEF;
    KeInitializeEvent(&operation->Done, NotificationEvent, FALSE);
    operation->Completions = 0;
    operation->Returned = STATUS_PENDING;
    IoSetCompletionRoutine(operation->Irp, Completed, operation, TRUE, TRUE, TRUE);
    return operation->Irp;
}

BOOLEAN OperationIsDone(OPERATION *operation, LONG waitMs) {
    LARGE_INTEGER timeout = {.QuadPart = -(LONGLONG)waitMs * 10000};
    return KeWaitForSingleObject(&operation->Done, Executive, KernelMode, FALSE, &timeout) == STATUS_SUCCESS;
}

void EventAwait(PKEVENT event) {
    LARGE_INTEGER slice = {.QuadPart = -SLICE_MS * 10000};
    for (ULONG round = 0; round < WAIT_SLICES; round++) {
        if (KeWaitForSingleObject(event, Executive, KernelMode, FALSE, &slice) == STATUS_SUCCESS) {
            return;
        }
    }
    ShimAbort("check", "an event that had to come did not");
}

void ReadableAwait(int descriptor) {
    for (ULONG round = 0; round < WAIT_SLICES; round++) {
        if (ShimWaitReadable(descriptor, SLICE_MS)) {
            return;
        }
    }
    ShimAbort("check", "the host's network did not do what it had to");
}

NTSTATUS OperationEnd(OPERATION *operation) {
    EventAwait(&operation->Done);
    CHECK_EQUAL(operation->Completions, 1);                                               /* IRP-001 */
    CHECK(operation->Returned != STATUS_SUCCESS || NT_SUCCESS(operation->Status));        /* IRP-002 */
    CHECK(NT_SUCCESS(operation->Returned) || operation->Status == operation->Returned);   /* IRP-003 */
    CHECK_EQUAL(operation->PendingReturned != 0, operation->Returned == STATUS_PENDING);  /* IRP-004 */
    CHECK(operation->Irql <= DISPATCH_LEVEL);                                             /* IRP-012 */
    CHECK(NT_SUCCESS(operation->Status) || operation->Information == 0);                  /* IRP-014 */
    IoFreeIrp(operation->Irp);
    return operation->Status;
}

void Pause(LONG ms) {
    LARGE_INTEGER time = {.QuadPart = -(LONGLONG)ms * 10000};
    KeDelayExecutionThread(KernelMode, FALSE, &time);
}

/* ---- Registration and sockets --------------------------------------------------------------------------------------- */

void ClientBegin(TEST_CLIENT *client) {
    RtlZeroMemory(client, sizeof(*client));
    client->Dispatch.Version = MAKE_WSK_VERSION(1, 0);
    client->ClientNpi.ClientContext = client;
    client->ClientNpi.Dispatch = &client->Dispatch;
    CHECK_STATUS(WskRegister(&client->ClientNpi, &client->Block), STATUS_SUCCESS);
    CHECK_STATUS(WskCaptureProviderNPI(&client->Block, WSK_NO_WAIT, &client->Npi), STATUS_SUCCESS);
}

void ClientEnd(TEST_CLIENT *client) {
    WskReleaseProviderNPI(&client->Block);
    WskDeregister(&client->Block);
}

PWSK_SOCKET SocketMake(TEST_CLIENT *client, ADDRESS_FAMILY family, USHORT type, ULONG flags, PVOID context, const VOID *dispatch,
                       NTSTATUS *status) {
    ULONG protocol = type == SOCK_STREAM ? IPPROTO_TCP : type == SOCK_DGRAM ? IPPROTO_UDP : 1;
    OPERATION operation = {0};
    NTSTATUS result;

    CALL(&operation, client->Npi.Dispatch->WskSocket(client->Npi.Client, family, type, protocol, flags, context, dispatch, NULL, NULL,
                                                     NULL, IRP_OF));
    result = OperationEnd(&operation);
    if (status != NULL) {
        *status = result;
    } else {
        CHECK_STATUS(result, STATUS_SUCCESS);
    }
    return NT_SUCCESS(result) ? (PWSK_SOCKET)operation.Information : NULL;
}

NTSTATUS SocketClose(PWSK_SOCKET socket) {
    OPERATION operation = {0};
    CALL(&operation, BASIC(socket)->WskCloseSocket(socket, IRP_OF));
    return OperationEnd(&operation);
}

NTSTATUS SocketBind(PWSK_SOCKET socket, const ADDRESS *address) {
    OPERATION operation = {0};
    ADDRESS copy = *address;
    CALL(&operation, LISTENER(socket)->WskBind(socket, &copy.Any, 0, IRP_OF));
    return OperationEnd(&operation);
}

NTSTATUS SocketLocal(PWSK_SOCKET socket, ADDRESS *address, ULONG category) {
    OPERATION operation = {0};
    PFN_WSK_GET_LOCAL_ADDRESS function = category == WSK_FLAG_LISTEN_SOCKET       ? LISTENER(socket)->WskGetLocalAddress
                                         : category == WSK_FLAG_DATAGRAM_SOCKET   ? DATAGRAM(socket)->WskGetLocalAddress
                                         : category == WSK_FLAG_STREAM_SOCKET     ? STREAM(socket)->WskGetLocalAddress
                                                                                  : CONNECTION(socket)->WskGetLocalAddress;
    CALL(&operation, function(socket, &address->Any, IRP_OF));
    return OperationEnd(&operation);
}

NTSTATUS SocketConnectTo(PWSK_SOCKET socket, const ADDRESS *address) {
    OPERATION operation = {0};
    ADDRESS copy = *address;
    CALL(&operation, CONNECTION(socket)->WskConnect(socket, &copy.Any, 0, IRP_OF));
    return OperationEnd(&operation);
}

NTSTATUS OptionSet(PWSK_SOCKET socket, ULONG level, ULONG code, ULONG value) {
    OPERATION operation = {0};
    CALL(&operation, BASIC(socket)->WskControlSocket(socket, WskSetOption, code, level, sizeof(value), &value, 0, NULL, NULL, IRP_OF));
    OperationEnd(&operation);
    CHECK_EQUAL(operation.Information, 0);
    return operation.Status;
}

NTSTATUS OptionGet(PWSK_SOCKET socket, ULONG level, ULONG code, ULONG *value) {
    OPERATION operation = {0};
    *value = 0xABABABAB;
    CALL(&operation, BASIC(socket)->WskControlSocket(socket, WskGetOption, code, level, 0, NULL, sizeof(*value), value, NULL, IRP_OF));
    OperationEnd(&operation);
    CHECK_EQUAL(operation.Information, NT_SUCCESS(operation.Status) ? sizeof(*value) : 0); /* OPT-001 */
    return operation.Status;
}

NTSTATUS EventsSet(PWSK_SOCKET socket, ULONG mask) {
    static const NPIID id = WSKLAB_NPI_WSK_INTERFACE_ID;
    WSK_EVENT_CALLBACK_CONTROL control = {.NpiId = &id, .EventMask = mask};
    return BASIC(socket)->WskControlSocket(socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, sizeof(control), &control, 0, NULL,
                                           NULL, NULL);
}

NTSTATUS Ioctl(PWSK_SOCKET socket, ULONG code, PVOID input, SIZE_T inputSize, PVOID output, SIZE_T outputSize, SIZE_T *returned) {
    OPERATION operation = {0};
    CALL(&operation, BASIC(socket)->WskControlSocket(socket, WskIoctl, code, 0, inputSize, input, outputSize, output, NULL, IRP_OF));
    OperationEnd(&operation);
    if (returned != NULL) {
        *returned = operation.Information;
    }
    return operation.Status;
}

PWSK_SOCKET ListenerMake(TEST_CLIENT *client, const char *address, PVOID context, const VOID *dispatch, ADDRESS *bound) {
    ADDRESS wanted = AddressOf(address, 0);
    PWSK_SOCKET socket = SocketMake(client, wanted.Any.sa_family, SOCK_STREAM, WSK_FLAG_LISTEN_SOCKET, context, dispatch, NULL);
    CHECK_STATUS(SocketBind(socket, &wanted), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, bound, WSK_FLAG_LISTEN_SOCKET), STATUS_SUCCESS);
    return socket;
}

PWSK_SOCKET ConnectedMake(TEST_CLIENT *client, const ADDRESS *peer, PVOID context, const VOID *dispatch) {
    ADDRESS any = AddressOf(peer->Any.sa_family == AF_INET ? "0.0.0.0" : "::", 0);
    PWSK_SOCKET socket = SocketMake(client, peer->Any.sa_family, SOCK_STREAM, WSK_FLAG_CONNECTION_SOCKET, context, dispatch, NULL);
    CHECK_STATUS(SocketBind(socket, &any), STATUS_SUCCESS);
    CHECK_STATUS(SocketConnectTo(socket, peer), STATUS_SUCCESS);
    return socket;
}

PWSK_SOCKET DatagramMake(TEST_CLIENT *client, const char *address, PVOID context, const VOID *dispatch, ADDRESS *bound) {
    ADDRESS wanted = AddressOf(address, 0);
    PWSK_SOCKET socket = SocketMake(client, wanted.Any.sa_family, SOCK_DGRAM, WSK_FLAG_DATAGRAM_SOCKET, context, dispatch, NULL);
    CHECK_STATUS(SocketBind(socket, &wanted), STATUS_SUCCESS);
    CHECK_STATUS(SocketLocal(socket, bound, WSK_FLAG_DATAGRAM_SOCKET), STATUS_SUCCESS);
    return socket;
}

PWSK_SOCKET AcceptOne(PWSK_SOCKET listener, PVOID context, const WSK_CLIENT_CONNECTION_DISPATCH *dispatch) {
    OPERATION operation = {0};
    CALL(&operation, LISTENER(listener)->WskAccept(listener, 0, context, dispatch, NULL, NULL, IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_SUCCESS);
    return (PWSK_SOCKET)operation.Information;
}

/* ---- Buffers --------------------------------------------------------------------------------------------------------- */

void BufferMake(TEST_BUFFER *buffer, ULONG offset, const ULONG *sizes) {
    PMDL *place = &buffer->Wsk.Mdl;

    RtlZeroMemory(buffer, sizeof(*buffer));
    for (; sizes[buffer->Count] != 0; buffer->Count++) {
        ULONG size = sizes[buffer->Count];
        PUCHAR memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, size, 0x74736574);
        if (memory == NULL) {
            memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, size, 0x74736574);
        }
        CHECK(memory != NULL);
        memset(memory, 0xCC, size);
        buffer->Memory[buffer->Count] = memory;
        buffer->Size[buffer->Count] = size;
        *place = IoAllocateMdl(memory, size, FALSE, FALSE, NULL);
        if (*place == NULL) {
            *place = IoAllocateMdl(memory, size, FALSE, FALSE, NULL);
        }
        CHECK(*place != NULL);
        MmBuildMdlForNonPagedPool(*place);
        place = &(*place)->Next;
        buffer->Wsk.Length += size;
    }
    buffer->Wsk.Offset = offset;
    buffer->Wsk.Length -= offset;
}

void BufferOf(TEST_BUFFER *buffer, const void *bytes, ULONG size) {
    const ULONG sizes[] = {size, 0};
    BufferMake(buffer, 0, sizes);
    if (bytes != NULL && size > 0) {
        memcpy(buffer->Memory[0], bytes, size);
    }
}

void BufferFree(TEST_BUFFER *buffer) {
    PMDL mdl = buffer->Wsk.Mdl;
    while (mdl != NULL) {
        PMDL next = mdl->Next;
        IoFreeMdl(mdl);
        mdl = next;
    }
    for (ULONG index = 0; index < buffer->Count; index++) {
        ExFreePoolWithTag(buffer->Memory[index], 0x74736574);
    }
}

static PUCHAR Place(const TEST_BUFFER *buffer, SIZE_T index) {
    for (ULONG chunk = 0; chunk < buffer->Count; chunk++) {
        if (index < buffer->Size[chunk]) {
            return buffer->Memory[chunk] + index;
        }
        index -= buffer->Size[chunk];
    }
    ShimAbort("check", "no such byte");
}

UCHAR BufferByte(const TEST_BUFFER *buffer, SIZE_T index) {
    return *Place(buffer, index);
}

void BufferPut(TEST_BUFFER *buffer, SIZE_T index, UCHAR byte) {
    *Place(buffer, index) = byte;
}

NTSTATUS SendBytes(PWSK_SOCKET socket, const void *bytes, ULONG size, ULONG_PTR *information) {
    OPERATION operation = {0};
    TEST_BUFFER buffer;

    BufferOf(&buffer, bytes, size);
    CALL(&operation, CONNECTION(socket)->WskSend(socket, &buffer.Wsk, 0, IRP_OF));
    OperationEnd(&operation);
    BufferFree(&buffer);
    if (information != NULL) {
        *information = operation.Information;
    }
    return operation.Status;
}

NTSTATUS ReceiveBytes(PWSK_SOCKET socket, void *bytes, ULONG size, ULONG flags, ULONG_PTR *information) {
    OPERATION operation = {0};
    TEST_BUFFER buffer;

    BufferOf(&buffer, NULL, size);
    CALL(&operation, CONNECTION(socket)->WskReceive(socket, &buffer.Wsk, flags, IRP_OF));
    OperationEnd(&operation);
    if (operation.Information > 0) {
        memcpy(bytes, buffer.Memory[0], operation.Information);
    }
    BufferFree(&buffer);
    *information = operation.Information;
    return operation.Status;
}

NTSTATUS Disconnect(PWSK_SOCKET socket, ULONG flags) {
    OPERATION operation = {0};
    CALL(&operation, CONNECTION(socket)->WskDisconnect(socket, NULL, flags, IRP_OF));
    return OperationEnd(&operation);
}

UCHAR PatternByte(ULONG seed, SIZE_T index) {
    return (UCHAR)(seed + 31 * index + (index >> 8));
}
