/*
 * net.c: the TCP and UDP sockets of this process, from /proc/net, told apart by their inodes. See ctl/net.c for the words.
 *
 * Rows without an inode (a socket that was closed and lives on, as in FIN_WAIT) belong to nobody there and are left out.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../ctl/verbs.h"

#define MAX_INODES 4096
#define ROW_ROOM 320

typedef struct TABLES {
    TEXT *line;
    size_t limit;
    uint64_t left_out;
    ino_t inodes[MAX_INODES];
    size_t inode_count;
} TABLES;

/* The states of include/net/tcp_states.h, in the words of MIB_TCP_STATE. */
static const char *StateName(unsigned state) {
    static const char *const names[] = {"?",          "established", "syn_sent",   "syn_received", "fin_wait_1", "fin_wait_2", "time_wait",
                                        "closed",     "close_wait",  "last_ack",   "listening",    "closing",    "syn_received"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static void ReadInodes(TABLES *tables) {
    DIR *directory = opendir("/proc/self/fd");
    const struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        struct stat status;
        char path[300];
        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        if (tables->inode_count < MAX_INODES && stat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
            tables->inodes[tables->inode_count++] = status.st_ino;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

static int IsOurs(const TABLES *tables, ino_t inode) {
    size_t index;

    for (index = 0; index < tables->inode_count; index += 1) {
        if (tables->inodes[index] == inode) {
            return 1;
        }
    }
    return 0;
}

/* "0100007F:1F90": words in host order, each written as a number. */
static int Endpoint(TEXT *line, const char *text, const char *address_name, const char *port_name) {
    uint32_t words[4] = {0};
    size_t digits = strcspn(text, ":");
    size_t count = digits / 8;
    char address[INET6_ADDRSTRLEN];
    size_t index;

    if (count != 1 && count != 4) {
        return 0;
    }
    for (index = 0; index < count; index += 1) {
        char word[9] = {0};
        memcpy(word, text + 8 * index, 8);
        words[index] = (uint32_t)strtoul(word, NULL, 16);
    }
    inet_ntop(count == 4 ? AF_INET6 : AF_INET, words, address, sizeof(address));
    TextMemberString(line, address_name, address);
    TextMemberUnsigned(line, port_name, strtoul(text + digits + 1, NULL, 16));
    return 1;
}

static void Row(TABLES *tables, char *text, int tcp, int six) {
    char local[64];
    char remote[64];
    unsigned state;
    uint64_t inode;
    TEXT *line = tables->line;

    if (sscanf(text, " %*u: %63s %63s %x %*s %*s %*s %*u %*u %" SCNu64, local, remote, &state, &inode) != 4 ||
        !IsOurs(tables, (ino_t)inode)) {
        return;
    }
    if (line->length + ROW_ROOM > tables->limit) {
        tables->left_out += 1;
        return;
    }
    if (line->data[line->length - 1] != '[') {
        TextAppend(line, ",", 1);
    }
    TextAppend(line, "{", 1);
    TextMemberString(line, "family", six ? "ipv6" : "ipv4");
    if (tcp) {
        TextMemberString(line, "state", StateName(state));
    }
    Endpoint(line, local, "local", "local_port");
    if (tcp) {
        Endpoint(line, remote, "remote", "remote_port");
    }
    TextMemberUnsigned(line, "pid", (uint64_t)getpid());
    TextAppend(line, "}", 1);
}

static int Read(TABLES *tables, const char *name, int tcp, int six) {
    char path[64];
    char text[512];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/net/%s", name);
    file = fopen(path, "r");
    if (file == NULL) {
        return six; /* a kernel without IPv6 has no such table */
    }
    while (fgets(text, sizeof(text), file) != NULL) {
        Row(tables, text, tcp, six);
    }
    fclose(file);
    return 1;
}

int NetMembers(TEXT *line, size_t limit, DWORD *win32) {
    TABLES *tables = calloc(1, sizeof(*tables));
    int read;

    tables->line = line;
    tables->limit = limit;
    ReadInodes(tables);
    TextMemberName(line, "tcp");
    TextAppend(line, "[", 1);
    read = Read(tables, "tcp", 1, 0) && Read(tables, "tcp6", 1, 1);
    TextAppend(line, "]", 1);
    TextMemberName(line, "udp");
    TextAppend(line, "[", 1);
    read = read && Read(tables, "udp", 0, 0) && Read(tables, "udp6", 0, 1);
    TextAppend(line, "]", 1);
    TextMemberUnsigned(line, "left_out", tables->left_out);
    free(tables);
    *win32 = read ? 0 : ERROR_FILE_NOT_FOUND;
    return read;
}
