/* kit_cases.c - core rules without a peer. Sentences are in the words of the rules; ids are the catalogue's. */
#include "kit.h"

#define STATUS_PENDING_HERE 0x00000103
#define STATUS_INVALID_DEVICE_STATE_HERE ((int32_t)0xC0000184)

#define MANY_SOCKETS 64
#define FIRST_STREAM_BUILD 15063 /* Windows 10 1703 */

/* A call's return, its one completion and both statuses fit together (WSK-IRP-001 to -003). */
static int Consistent(const WSKLAB_RECORD *record)
{
    if (record->state != WSKLAB_STATE_COMPLETED || record->completion_count != 1) {
        return 0;
    }
    if (record->returned_status == STATUS_PENDING_HERE) {
        return 1;
    }
    return (record->returned_status >= 0) == (record->completion_status >= 0);
}

int KitRunOperation(KIT *kit, const WSKLAB_SUBMIT *submit, const void *data, WSKLAB_RECORD *record)
{
    NTSTATUS status = ClientRun(&kit->client, submit, data, record);

    if (!KitCheck(kit, "the driver took and answered the operation", status >= 0)) {
        return 0;
    }
    KitObserve(kit, record);
    return 1;
}

static int Simple(KIT *kit, uint32_t function, WSKLAB_RECORD *record)
{
    WSKLAB_SUBMIT submit;

    ClientPrepare(&kit->client, &submit, function, 0);
    if (function == WSKLAB_FN_REGISTER) {
        submit.version = 0x0100;
    }
    if (function == WSKLAB_FN_CAPTURE) {
        submit.timeout_ms = 5000;
    }
    return KitRunOperation(kit, &submit, NULL, record);
}

static void CaseAttach(KIT *kit)
{
    WSKLAB_RECORD record;

    if (Simple(kit, WSKLAB_FN_REGISTER, &record)) {
        KitCheck(kit, "WskRegister succeeds", record.returned_status == 0);
    }
    if (Simple(kit, WSKLAB_FN_CAPTURE, &record)) {
        KitCheck(kit, "WskCaptureProviderNPI succeeds", record.returned_status == 0);
        KitCheck(kit, "it fills Client", (record.flags & WSKLAB_RECORD_CLIENT_SET) != 0);
        KitCheck(kit, "it fills Dispatch", (record.flags & WSKLAB_RECORD_DISPATCH_SET) != 0);
        KitCheck(kit, "the provider's major version is 1", record.version >> 8 == 1);
    }
}

static void CaseProvider(KIT *kit)
{
    WSKLAB_RECORD record;

    if (Simple(kit, WSKLAB_FN_PROVIDER_INFO, &record)) {
        KitCheck(kit, "WskSocket, WskSocketConnect and WskControlClient are there", (record.members & 7) == 7);
        KitCheck(kit, "the name functions of Windows 7 are there", (record.members & 0x38) == 0x38);
    }
}

static void CaseDetach(KIT *kit)
{
    WSKLAB_RECORD record;

    if (Simple(kit, WSKLAB_FN_RELEASE_NPI, &record) && Simple(kit, WSKLAB_FN_DEREGISTER, &record)) {
        KitCheck(kit, "WskDeregister returns within a second", record.return_ns - record.enter_ns < 1000000000ULL);
    }
    if (Simple(kit, WSKLAB_FN_REGISTER, &record)) {
        KitCheck(kit, "the same block can be registered anew", record.returned_status == 0);
    }
    if (Simple(kit, WSKLAB_FN_CAPTURE, &record)) {
        KitCheck(kit, "and captured", record.returned_status == 0);
    }
}

void KitClose(KIT *kit, uint32_t socket)
{
    WSKLAB_RECORD record;
    WSKLAB_SUBMIT submit;

    ClientPrepare(&kit->client, &submit, WSKLAB_FN_CLOSE, socket);
    if (KitRunOperation(kit, &submit, NULL, &record)) {
        KitCheck(kit, "closing completes with success", RecordSucceeded(&record) && Consistent(&record));
    }
}

static void CaseSample(KIT *kit)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    ClientPrepare(&kit->client, &submit, WSKLAB_FN_SAMPLE_LISTEN, 0);
    submit.dispatch = WSKLAB_DISPATCH_FULL;
    if (!KitRunOperation(kit, &submit, NULL, &record)) {
        return;
    }
    KitCheck(kit, "the call returns success or pending",
             record.returned_status == 0 || record.returned_status == STATUS_PENDING_HERE);
    KitCheck(kit, "the completion routine runs once", record.completion_count == 1);
    KitCheck(kit, "with our IRP", (record.flags & WSKLAB_RECORD_IRP_MATCH) != 0);
    KitCheck(kit, "and our context", (record.flags & WSKLAB_RECORD_CONTEXT_MATCH) != 0);
    if (KitCheck(kit, "the socket is created", RecordSucceeded(&record))) {
        KitCheck(kit, "Information is a socket", record.information_kind == WSKLAB_INFORMATION_SOCKET);
        KitCheck(kit, "with a dispatch table", (record.flags & WSKLAB_RECORD_SOCKET_DISPATCH) != 0);
        KitClose(kit, submit.new_socket);
    }
}

uint32_t KitCreate(KIT *kit, uint32_t category, uint16_t family, uint16_t type, uint32_t protocol)
{
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    ClientPrepare(&kit->client, &submit, WSKLAB_FN_SOCKET, 0);
    submit.flags = category;
    submit.family = family;
    submit.type = type;
    submit.protocol = protocol;
    if (!KitRunOperation(kit, &submit, NULL, &record)) {
        return 0;
    }
    KitCheck(kit, "return and completion fit together", Consistent(&record));
    return RecordSucceeded(&record) ? submit.new_socket : 0;
}

/* One category: it can be created, its table has the members, it closes. */
static void Category(KIT *kit, uint32_t category, uint16_t type, uint32_t protocol, uint64_t members)
{
    uint32_t socket = KitCreate(kit, category, IPV4, type, protocol);
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    if (!KitCheck(kit, "the socket is created", socket != 0)) {
        return;
    }
    ClientPrepare(&kit->client, &submit, WSKLAB_FN_SOCKET_INFO, socket);
    if (KitRunOperation(kit, &submit, NULL, &record)) {
        KitCheck(kit, "its table has every function of the category", (record.members & members) == members);
    }
    KitClose(kit, socket);
}

static void CaseBasic(KIT *kit)
{
    Category(kit, WSKLAB_CATEGORY_BASIC, STREAM, TCP, 0x3);
}

static void CaseListen(KIT *kit)
{
    Category(kit, WSKLAB_CATEGORY_LISTEN, STREAM, TCP, 0x3F);
}

static void CaseDatagram(KIT *kit)
{
    Category(kit, WSKLAB_CATEGORY_DATAGRAM, DGRAM, UDP, 0x7F);
}

static void CaseConnection(KIT *kit)
{
    Category(kit, WSKLAB_CATEGORY_CONNECTION, STREAM, TCP, 0x3FF);
}

static void CaseStream(KIT *kit)
{
    if (kit->os_build >= FIRST_STREAM_BUILD) {
        Category(kit, WSKLAB_CATEGORY_STREAM, STREAM, TCP, 0x7FF);
    }
}

static void Family(KIT *kit, uint32_t category, uint16_t family, uint16_t type, uint32_t protocol)
{
    uint32_t socket = KitCreate(kit, category, family, type, protocol);

    if (KitCheck(kit, "the socket is created", socket != 0)) {
        KitClose(kit, socket);
    }
}

static void CaseIpv4Tcp(KIT *kit)
{
    Family(kit, WSKLAB_CATEGORY_LISTEN, IPV4, STREAM, TCP);
    Family(kit, WSKLAB_CATEGORY_CONNECTION, IPV4, STREAM, TCP);
}

static void CaseIpv6Tcp(KIT *kit)
{
    Family(kit, WSKLAB_CATEGORY_LISTEN, IPV6, STREAM, TCP);
    Family(kit, WSKLAB_CATEGORY_CONNECTION, IPV6, STREAM, TCP);
}

static void CaseIpv4Udp(KIT *kit)
{
    Family(kit, WSKLAB_CATEGORY_DATAGRAM, IPV4, DGRAM, UDP);
}

static void CaseIpv6Udp(KIT *kit)
{
    Family(kit, WSKLAB_CATEGORY_DATAGRAM, IPV6, DGRAM, UDP);
}

static void Refused(KIT *kit, uint16_t family, uint16_t type, uint32_t protocol)
{
    uint32_t socket = KitCreate(kit, WSKLAB_CATEGORY_CONNECTION, family, type, protocol);

    if (!KitCheck(kit, "creation fails", socket == 0)) {
        KitClose(kit, socket);
    }
}

static void CaseNoFamily(KIT *kit)
{
    Refused(kit, 16, STREAM, TCP);
    Refused(kit, 99, STREAM, TCP);
    Refused(kit, 0xFFFF, STREAM, TCP);
}

static void CaseNoPair(KIT *kit)
{
    Refused(kit, IPV4, STREAM, UDP);
    Refused(kit, IPV4, DGRAM, TCP);
    Refused(kit, IPV4, 99, TCP);
    Refused(kit, IPV4, STREAM, 250);
}

static void CaseManySockets(KIT *kit)
{
    uint32_t sockets[MANY_SOCKETS];
    WSKLAB_RECORD record;
    int created = 0;
    int unique = 0;
    int closed = 0;
    int index;

    for (index = 0; index < MANY_SOCKETS; index += 1) {
        sockets[index] = 0;
        if (ClientSocket(&kit->client, WSKLAB_CATEGORY_LISTEN, IPV4, STREAM, TCP, &record) >= 0 &&
            RecordSucceeded(&record)) {
            sockets[index] = record.new_socket;
            created += 1;
            unique += (record.flags & WSKLAB_RECORD_SOCKET_UNIQUE) != 0;
        }
    }
    for (index = 0; index < MANY_SOCKETS; index += 1) {
        closed += sockets[index] != 0 && ClientCloseSocket(&kit->client, sockets[index], &record) >= 0 &&
                  RecordSucceeded(&record);
    }
    KitCheck(kit, "64 sockets are created", created == MANY_SOCKETS);
    KitCheck(kit, "each is an object of its own", unique == created);
    KitCheck(kit, "all are closed", closed == created);
}

static void CaseConnectUnbound(KIT *kit)
{
    uint32_t socket = KitCreate(kit, WSKLAB_CATEGORY_CONNECTION, IPV4, STREAM, TCP);
    WSKLAB_SUBMIT submit;
    WSKLAB_RECORD record;

    if (!KitCheck(kit, "the socket is created", socket != 0)) {
        return;
    }
    ClientPrepare(&kit->client, &submit, WSKLAB_FN_CONNECT, socket);
    submit.address_use = WSKLAB_ADDRESS_REMOTE;
    AddressSet(&submit.remote, LOOPBACK, 9);
    if (KitRunOperation(kit, &submit, NULL, &record)) {
        KitCheck(kit, "connecting without a bind fails, in the return and in the IRP",
                 record.returned_status < 0 && record.completion_status < 0 && record.completion_count == 1);
        KitCheck(kit, "with STATUS_INVALID_DEVICE_STATE", record.completion_status == STATUS_INVALID_DEVICE_STATE_HERE);
    }
    KitClose(kit, socket);
}

/* Last: everything that the cases used was given back. */
static void CaseLedger(KIT *kit)
{
    WSKLAB_LEDGERS ledgers;

    if (!KitCheck(kit, "the ledger is answered", ClientLedger(&kit->client, &ledgers) >= 0)) {
        return;
    }
    TextAppendString(kit->report, ",{");
    TextMemberName(kit->report, "ledger");
    TextAppendString(kit->report, "{");
    LedgerMembers(kit->report, &ledgers.client);
    TextAppendString(kit->report, "}}");
    KitCheck(kit, "issued is completed, outstanding and lost together",
             ledgers.client.issued ==
                 ledgers.client.completed + ledgers.client.outstanding + ledgers.client.lost);
    KitCheck(kit, "nothing is outstanding", ledgers.client.outstanding == 0);
    KitCheck(kit, "nothing is lost", ledgers.client.lost == 0);
    KitCheck(kit, "every IRP was freed", ledgers.client.irps_allocated == ledgers.client.irps_freed);
    KitCheck(kit, "every MDL was freed", ledgers.client.mdls_allocated == ledgers.client.mdls_freed);
    KitCheck(kit, "every socket was closed", ledgers.client.sockets_opened == ledgers.client.sockets_closed);
}

const KIT_CASE KitCases[] = {
    {"WSK-REG-002", "attach", CaseAttach},
    {"WSK-REG-004", "provider-table", CaseProvider},
    {"WSK-SOCK-001", "published-sample", CaseSample},
    {"WSK-SOCK-011", "many-sockets", CaseManySockets},
    {"WSK-CAT-001", "basic", CaseBasic},
    {"WSK-CAT-002", "listening", CaseListen},
    {"WSK-CAT-003", "datagram", CaseDatagram},
    {"WSK-CAT-004", "connection", CaseConnection},
    {"WSK-CAT-005", "stream", CaseStream},
    {"WSK-FAM-001", "ipv4-tcp", CaseIpv4Tcp},
    {"WSK-FAM-002", "ipv6-tcp", CaseIpv6Tcp},
    {"WSK-FAM-003", "ipv4-udp", CaseIpv4Udp},
    {"WSK-FAM-004", "ipv6-udp", CaseIpv6Udp},
    {"WSK-FAM-006", "unknown-family", CaseNoFamily},
    {"WSK-FAM-007", "unsupported-pair", CaseNoPair},
    {"WSK-CONN-002", "connect-unbound", CaseConnectUnbound},
    {"WSK-DATA-002", "loopback", KitLoopback},
    {"WSK-DET-001", "detach", CaseDetach},
    {"LAB-LEDGER", "ledger", CaseLedger},
};
const size_t KitCaseCount = sizeof(KitCases) / sizeof(KitCases[0]);
