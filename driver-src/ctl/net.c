/*
 * net.c - the guest's own TCP and UDP tables (GetExtendedTcpTable, GetExtendedUdpTable).
 *
 * This is the view of a socket that neither the driver nor the peer can colour. iphlpapi is loaded only
 * when asked for.
 */
#include "verbs.h"

#include <winsock2.h>
#include <ws2ipdef.h>

#include <iphlpapi.h>

/* A table that grows while it is read is read again, at most this often. */
#define READ_ATTEMPTS 8

typedef DWORD(WINAPI *READ_TCP)(PVOID, PDWORD, BOOL, ULONG, TCP_TABLE_CLASS, ULONG);
typedef DWORD(WINAPI *READ_UDP)(PVOID, PDWORD, BOOL, ULONG, UDP_TABLE_CLASS, ULONG);

typedef struct TABLES {
    READ_TCP tcp;
    READ_UDP udp;
    TEXT *line;
    size_t limit;
    uint64_t left_out;
} TABLES;

/* MIB_TCP_STATE; the words are those of netstat, with underscores. */
static const char *StateName(DWORD state)
{
    static const char *const names[] = {"?",        "closed",     "listening",  "syn_sent", "syn_received",
                                        "established", "fin_wait_1", "fin_wait_2", "close_wait", "closing",
                                        "last_ack", "time_wait",  "delete_tcb"};

    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static void AppendIpv4(TEXT *line, DWORD address)
{
    int index;

    TextAppend(line, "\"", 1);
    for (index = 0; index < 4; index += 1) {
        if (index > 0) {
            TextAppend(line, ".", 1);
        }
        TextAppendUnsigned(line, (address >> (8 * index)) & 0xFF);
    }
    TextAppend(line, "\"", 1);
}

/* All eight groups, not compressed; readers normalise. */
static void AppendIpv6(TEXT *line, const UCHAR *address)
{
    static const char hex[] = "0123456789abcdef";
    int index;

    TextAppend(line, "\"", 1);
    for (index = 0; index < 16; index += 1) {
        char digits[2] = {hex[address[index] >> 4], hex[address[index] & 15]};
        if (index > 0 && index % 2 == 0) {
            TextAppend(line, ":", 1);
        }
        TextAppend(line, digits, 2);
    }
    TextAppend(line, "\"", 1);
}

/* Ports stand in network order in the low 16 bits; the upper bits hold no meaning. */
static uint64_t Port(DWORD port)
{
    return ((port & 0xFF) << 8) | ((port >> 8) & 0xFF);
}

/* Starts a row, or counts it as left out; a row has at most 320 bytes. */
static int StartRow(TABLES *tables)
{
    TEXT *line = tables->line;

    if (line->length + 320 > tables->limit) {
        tables->left_out += 1;
        return 0;
    }
    if (line->data[line->length - 1] != '[') {
        TextAppend(line, ",", 1);
    }
    TextAppend(line, "{", 1);
    return 1;
}

static void Endpoint(TEXT *line, const char *address_name, const char *port_name, const UCHAR *ipv6, DWORD ipv4,
                     DWORD port)
{
    TextMemberName(line, address_name);
    if (ipv6 != NULL) {
        AppendIpv6(line, ipv6);
    } else {
        AppendIpv4(line, ipv4);
    }
    TextMemberUnsigned(line, port_name, Port(port));
}

/* A table of that family, to be freed; NULL and *win32 when it cannot be read. */
static void *ReadTable(TABLES *tables, int tcp, ULONG family, DWORD *win32)
{
    DWORD size = 16384;
    void *table = NULL;
    int attempt;

    *win32 = ERROR_INSUFFICIENT_BUFFER;
    for (attempt = 0; attempt < READ_ATTEMPTS && *win32 == ERROR_INSUFFICIENT_BUFFER; attempt += 1) {
        Free(table);
        size += 4096;
        table = Allocate(size);
        if (table == NULL) {
            *win32 = ERROR_NOT_ENOUGH_MEMORY;
        } else if (tcp) {
            *win32 = tables->tcp(table, &size, FALSE, family, TCP_TABLE_OWNER_PID_ALL, 0);
        } else {
            *win32 = tables->udp(table, &size, FALSE, family, UDP_TABLE_OWNER_PID, 0);
        }
    }
    if (*win32 != NO_ERROR) {
        Free(table);
        return NULL;
    }
    return table;
}

static int TcpRows(TABLES *tables, ULONG family, DWORD *win32)
{
    void *table = ReadTable(tables, 1, family, win32);
    TEXT *line = tables->line;
    DWORD index;

    if (table == NULL) {
        return 0;
    }
    for (index = 0; index < *(DWORD *)table; index += 1) {
        const MIB_TCPROW_OWNER_PID *four = &((MIB_TCPTABLE_OWNER_PID *)table)->table[index];
        const MIB_TCP6ROW_OWNER_PID *six = &((MIB_TCP6TABLE_OWNER_PID *)table)->table[index];
        int is_six = family == AF_INET6;
        if (!StartRow(tables)) {
            continue;
        }
        TextMemberString(line, "family", is_six ? "ipv6" : "ipv4");
        TextMemberString(line, "state", StateName(is_six ? six->dwState : four->dwState));
        Endpoint(line, "local", "local_port", is_six ? six->ucLocalAddr : NULL, is_six ? 0 : four->dwLocalAddr,
                 is_six ? six->dwLocalPort : four->dwLocalPort);
        Endpoint(line, "remote", "remote_port", is_six ? six->ucRemoteAddr : NULL, is_six ? 0 : four->dwRemoteAddr,
                 is_six ? six->dwRemotePort : four->dwRemotePort);
        TextMemberUnsigned(line, "pid", is_six ? six->dwOwningPid : four->dwOwningPid);
        TextAppend(line, "}", 1);
    }
    Free(table);
    return 1;
}

static int UdpRows(TABLES *tables, ULONG family, DWORD *win32)
{
    void *table = ReadTable(tables, 0, family, win32);
    TEXT *line = tables->line;
    DWORD index;

    if (table == NULL) {
        return 0;
    }
    for (index = 0; index < *(DWORD *)table; index += 1) {
        const MIB_UDPROW_OWNER_PID *four = &((MIB_UDPTABLE_OWNER_PID *)table)->table[index];
        const MIB_UDP6ROW_OWNER_PID *six = &((MIB_UDP6TABLE_OWNER_PID *)table)->table[index];
        int is_six = family == AF_INET6;
        if (!StartRow(tables)) {
            continue;
        }
        TextMemberString(line, "family", is_six ? "ipv6" : "ipv4");
        Endpoint(line, "local", "local_port", is_six ? six->ucLocalAddr : NULL, is_six ? 0 : four->dwLocalAddr,
                 is_six ? six->dwLocalPort : four->dwLocalPort);
        TextMemberUnsigned(line, "pid", is_six ? six->dwOwningPid : four->dwOwningPid);
        TextAppend(line, "}", 1);
    }
    Free(table);
    return 1;
}

int NetMembers(TEXT *line, size_t limit, DWORD *win32)
{
    HMODULE library = LoadLibraryW(L"iphlpapi.dll");
    TABLES tables = {NULL, NULL, line, limit, 0};

    if (library != NULL) {
        tables.tcp = (READ_TCP)(void *)GetProcAddress(library, "GetExtendedTcpTable");
        tables.udp = (READ_UDP)(void *)GetProcAddress(library, "GetExtendedUdpTable");
    }
    if (tables.tcp == NULL || tables.udp == NULL) {
        *win32 = ERROR_PROC_NOT_FOUND;
        return 0;
    }
    TextMemberName(line, "tcp");
    TextAppend(line, "[", 1);
    if (!TcpRows(&tables, AF_INET, win32) || !TcpRows(&tables, AF_INET6, win32)) {
        return 0;
    }
    TextAppend(line, "]", 1);
    TextMemberName(line, "udp");
    TextAppend(line, "[", 1);
    if (!UdpRows(&tables, AF_INET, win32) || !UdpRows(&tables, AF_INET6, win32)) {
        return 0;
    }
    TextAppend(line, "]", 1);
    TextMemberUnsigned(line, "left_out", tables.left_out);
    return 1;
}

int VerbNet(int count, char **arguments)
{
    char *buffer = Allocate(WSKCTL_LINE_LIMIT);
    DWORD win32 = 0;
    TEXT line;

    (void)arguments;
    if (count != 0 || buffer == NULL) {
        Complain(count != 0 ? "wskctl: net takes no arguments\n" : "wskctl: no memory\n");
        return EXIT_USAGE;
    }
    TextStart(&line, buffer, WSKCTL_LINE_LIMIT);
    TextAppendString(&line, "{");
    TextMemberUnsigned(&line, "schema", 1);
    if (!NetMembers(&line, WSKCTL_LINE_LIMIT - 4096, &win32)) {
        Complain("wskctl: the address tables cannot be read\n");
        return EXIT_FAILED;
    }
    TextAppendString(&line, "}\n");
    Print(line.data, line.length);
    return EXIT_OK;
}
