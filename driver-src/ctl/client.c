/* client.c - see client.h. */
#include "client.h"

#ifndef STATUS_PENDING
#define STATUS_PENDING ((NTSTATUS)0x00000103)
#endif
#define STATUS_NO_MEMORY_HERE ((NTSTATUS)0xC0000017)
#define STATUS_TIMED_OUT_HERE ((NTSTATUS)0xC00000B5) /* STATUS_IO_TIMEOUT */
#define STATUS_SHORT_ANSWER ((NTSTATUS)0xC0000004)   /* STATUS_INFO_LENGTH_MISMATCH */

#define FAMILY_IPV4 2

static void SetHeader(WSKLAB_HEADER *header, size_t size)
{
    header->size = (uint32_t)size;
    header->abi = WSKLAB_ABI_VERSION;
    header->reserved = 0;
}

DWORD ClientOpen(CLIENT *client)
{
    memset(client, 0, sizeof(*client));
    client->event = CreateEventW(NULL, TRUE, FALSE, NULL);
    client->device = CreateFileW(L"\\\\.\\wsklab", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                 NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    return client->device == INVALID_HANDLE_VALUE ? GetLastError() : 0;
}

void ClientClose(CLIENT *client)
{
    CloseHandle(client->device);
    CloseHandle(client->event);
}

NTSTATUS ClientIoctl(CLIENT *client, uint32_t code, const void *input, size_t input_size, void *output,
                     size_t output_size, uint32_t timeout_ms, size_t *returned)
{
    IO_STATUS_BLOCK block;
    NTSTATUS status;

    memset(&block, 0, sizeof(block));
    ResetEvent(client->event);
    status = NtDeviceIoControlFile(client->device, client->event, NULL, NULL, &block, code, (void *)input,
                                   (ULONG)input_size, output, (ULONG)output_size);
    if (status == STATUS_PENDING) {
        status = STATUS_TIMED_OUT_HERE;
        if (WaitForSingleObject(client->event, timeout_ms) == WAIT_OBJECT_0) {
            status = block.Status;
        } else {
            /* The block must not be left behind: wait for the end that the cancel brings, however long. */
            CancelIoEx(client->device, (OVERLAPPED *)&block);
            WaitForSingleObject(client->event, INFINITE);
        }
    }
    *returned = status >= 0 ? (size_t)block.Information : 0;
    return status;
}

void ClientPrepare(CLIENT *client, WSKLAB_SUBMIT *submit, uint32_t function, uint32_t socket)
{
    memset(submit, 0, sizeof(*submit));
    SetHeader(&submit->header, sizeof(*submit));
    client->last_operation += 1;
    submit->op_id = client->last_operation;
    submit->function = function;
    submit->socket = socket;
    submit->stack_count = 1;
    submit->completion_cookie = 0xC00C1E0000000000ULL | submit->op_id;
    if (function == WSKLAB_FN_SAMPLE_LISTEN || function == WSKLAB_FN_SOCKET || function == WSKLAB_FN_ACCEPT) {
        client->last_socket += 1;
        submit->new_socket = client->last_socket;
    }
}

NTSTATUS ClientSubmit(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data)
{
    size_t behind = (size_t)submit->data_length + submit->extra_length;
    size_t size = sizeof(*submit) + behind;
    unsigned char *request = Allocate(size);
    size_t returned;
    NTSTATUS status;

    if (request == NULL) {
        return STATUS_NO_MEMORY_HERE;
    }
    memcpy(request, submit, sizeof(*submit));
    if (behind > 0) {
        memcpy(request + sizeof(*submit), data, behind);
    }
    status = ClientIoctl(client, IOCTL_WSKLAB_SUBMIT, request, size, NULL, 0, CLIENT_WAIT_MS, &returned);
    Free(request);
    return status;
}

NTSTATUS ClientWait(CLIENT *client, uint32_t op_id, uint32_t timeout_ms, uint32_t flags, WSKLAB_RECORD *record,
                    void *data, uint32_t data_size)
{
    unsigned char *answer = Allocate(sizeof(*record) + data_size);
    WSKLAB_WAIT wait;
    size_t returned;
    NTSTATUS status;

    if (answer == NULL) {
        return STATUS_NO_MEMORY_HERE;
    }
    memset(&wait, 0, sizeof(wait));
    SetHeader(&wait.header, sizeof(wait));
    wait.op_id = op_id;
    wait.timeout_ms = timeout_ms;
    wait.flags = flags;
    status = ClientIoctl(client, IOCTL_WSKLAB_WAIT, &wait, sizeof(wait), answer, sizeof(*record) + data_size,
                         timeout_ms + CLIENT_WAIT_MS, &returned);
    if (status >= 0 && returned < sizeof(*record)) {
        status = STATUS_SHORT_ANSWER;
    }
    if (status >= 0) {
        memcpy(record, answer, sizeof(*record));
        if (record->data_length > returned - sizeof(*record) || record->data_length > data_size) {
            status = STATUS_SHORT_ANSWER;
        } else if (record->data_length > 0) {
            memcpy(data, answer + sizeof(*record), record->data_length);
        }
    }
    Free(answer);
    return status;
}

NTSTATUS ClientRun(CLIENT *client, const WSKLAB_SUBMIT *submit, const void *data, WSKLAB_RECORD *record)
{
    NTSTATUS status = ClientSubmit(client, submit, data);

    memset(record, 0, sizeof(*record));
    return status < 0 ? status
                      : ClientWait(client, submit->op_id, CLIENT_WAIT_MS, WSKLAB_RELEASE, record, NULL, 0);
}

NTSTATUS ClientSocket(CLIENT *client, uint32_t category, uint16_t family, uint16_t type, uint32_t protocol,
                      WSKLAB_RECORD *record)
{
    WSKLAB_SUBMIT submit;

    ClientPrepare(client, &submit, WSKLAB_FN_SOCKET, 0);
    submit.flags = category;
    submit.family = family;
    submit.type = type;
    submit.protocol = protocol;
    return ClientRun(client, &submit, NULL, record);
}

NTSTATUS ClientCloseSocket(CLIENT *client, uint32_t socket, WSKLAB_RECORD *record)
{
    WSKLAB_SUBMIT submit;

    ClientPrepare(client, &submit, WSKLAB_FN_CLOSE, socket);
    return ClientRun(client, &submit, NULL, record);
}

NTSTATUS ClientBind(CLIENT *client, uint32_t socket, uint32_t ipv4, uint16_t port, WSKLAB_RECORD *record)
{
    WSKLAB_SUBMIT submit;

    ClientPrepare(client, &submit, WSKLAB_FN_BIND, socket);
    submit.address_use = WSKLAB_ADDRESS_LOCAL;
    AddressSet(&submit.local, ipv4, port);
    return ClientRun(client, &submit, NULL, record);
}

NTSTATUS ClientQuiesce(CLIENT *client, uint32_t timeout_ms, QUIESCED *quiesced)
{
    WSKLAB_QUIESCE request;
    size_t returned;
    NTSTATUS status;

    memset(&request, 0, sizeof(request));
    SetHeader(&request.header, sizeof(request));
    request.timeout_ms = timeout_ms;
    status = ClientIoctl(client, IOCTL_WSKLAB_QUIESCE, &request, sizeof(request), quiesced, sizeof(*quiesced),
                         timeout_ms + CLIENT_WAIT_MS, &returned);
    if (status >= 0 && (returned < sizeof(quiesced->result) ||
                        quiesced->result.count > (returned - sizeof(quiesced->result)) / sizeof(WSKLAB_OWNER))) {
        status = STATUS_SHORT_ANSWER;
    }
    return status;
}

NTSTATUS ClientLedger(CLIENT *client, WSKLAB_LEDGERS *ledgers)
{
    WSKLAB_LEDGER_REQUEST request;
    size_t returned;
    NTSTATUS status;

    memset(&request, 0, sizeof(request));
    SetHeader(&request.header, sizeof(request));
    status = ClientIoctl(client, IOCTL_WSKLAB_LEDGER, &request, sizeof(request), ledgers, sizeof(*ledgers),
                         CLIENT_WAIT_MS, &returned);
    return status >= 0 && returned != sizeof(*ledgers) ? STATUS_SHORT_ANSWER : status;
}

/* SOCKADDR_IN: family in host order, port and address in network order, 16 bytes. */
void AddressSet(WSKLAB_ADDRESS *address, uint32_t ipv4, uint16_t port)
{
    memset(address, 0, sizeof(*address));
    address->length = 16;
    address->bytes[0] = FAMILY_IPV4;
    address->bytes[2] = (uint8_t)(port >> 8);
    address->bytes[3] = (uint8_t)port;
    address->bytes[4] = (uint8_t)(ipv4 >> 24);
    address->bytes[5] = (uint8_t)(ipv4 >> 16);
    address->bytes[6] = (uint8_t)(ipv4 >> 8);
    address->bytes[7] = (uint8_t)ipv4;
}

uint16_t AddressPort(const WSKLAB_ADDRESS *address)
{
    return (uint16_t)(address->bytes[2] << 8 | address->bytes[3]);
}

int RecordSucceeded(const WSKLAB_RECORD *record)
{
    return record->state == WSKLAB_STATE_COMPLETED && record->completion_count == 1 && record->completion_status >= 0;
}

void RecordMembers(TEXT *line, const WSKLAB_RECORD *record)
{
    static const char *const states[] = {"new", "calling", "outstanding", "completed", "lost", "not_started"};

    TextMemberUnsigned(line, "op_id", record->op_id);
    TextMemberUnsigned(line, "function", record->function);
    TextMemberUnsigned(line, "socket", record->socket);
    TextMemberUnsigned(line, "new_socket", record->new_socket);
    TextMemberString(line, "state", record->state < 6 ? states[record->state] : "?");
    TextMemberUnsigned(line, "returned_status", (uint32_t)record->returned_status);
    TextMemberUnsigned(line, "completion_status", (uint32_t)record->completion_status);
    TextMemberUnsigned(line, "driver_status", (uint32_t)record->driver_status);
    TextMemberUnsigned(line, "completion_count", record->completion_count);
    TextMemberUnsigned(line, "information_kind", record->information_kind);
    TextMemberUnsigned(line, "information", record->information);
    TextMemberUnsigned(line, "flags", record->flags);
    TextMemberUnsigned(line, "call_irql", record->call_irql);
    TextMemberUnsigned(line, "completion_irql", record->completion_irql);
    TextMemberUnsigned(line, "enter_sequence", record->enter_sequence);
    TextMemberUnsigned(line, "return_sequence", record->return_sequence);
    TextMemberUnsigned(line, "completion_sequence", record->completion_sequence);
    TextMemberUnsigned(line, "members", record->members);
    TextMemberUnsigned(line, "member_count", record->member_count);
    TextMemberUnsigned(line, "version", record->version);
    if (record->local.length != 0) {
        TextMemberHex(line, "local", record->local.bytes, record->local.length <= 28 ? record->local.length : 28);
    }
    if (record->remote.length != 0) {
        TextMemberHex(line, "remote", record->remote.bytes, record->remote.length <= 28 ? record->remote.length : 28);
    }
}

void LedgerMembers(TEXT *line, const WSKLAB_LEDGER *ledger)
{
    static const char *const names[] = {
        "issued", "completed", "outstanding", "lost", "late", "not_started", "irps_allocated", "irps_freed",
        "mdls_allocated", "mdls_freed", "pool_allocations", "pool_frees", "pool_bytes", "sockets_opened",
        "sockets_closed", "captures", "releases", "events_recorded", "events_dropped", "operations_held",
        "waits_pending", "callbacks", "objects_made", "objects_released", "irps_kept",
    };
    const uint64_t *values = (const uint64_t *)ledger;
    size_t index;

    _Static_assert(sizeof(names) / sizeof(names[0]) == sizeof(WSKLAB_LEDGER) / sizeof(uint64_t), "a counter is unnamed");
    for (index = 0; index < sizeof(names) / sizeof(names[0]); index += 1) {
        TextMemberUnsigned(line, names[index], values[index]);
    }
}

void HelloMembers(TEXT *line, const WSKLAB_HELLO *hello)
{
    char label[sizeof(hello->build_label) + 1];

    memcpy(label, hello->build_label, sizeof(hello->build_label));
    label[sizeof(hello->build_label)] = '\0';
    TextMemberUnsigned(line, "abi", hello->abi);
    TextMemberUnsigned(line, "provider_version", hello->provider_version);
    TextMemberUnsigned(line, "os_major", hello->os_major);
    TextMemberUnsigned(line, "os_minor", hello->os_minor);
    TextMemberUnsigned(line, "os_build", hello->os_build);
    TextMemberUnsigned(line, "flags", hello->flags);
    TextMemberUnsigned(line, "dacl_status", (uint32_t)hello->dacl_status);
    TextMemberUnsigned(line, "clients", hello->clients);
    TextMemberHex(line, "build_digest", hello->build_digest, sizeof(hello->build_digest));
    TextMemberString(line, "build_label", label);
}
