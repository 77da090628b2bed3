/*
 * login.c: one login of a shim guest: a connection whose first line is a command line.
 *
 * What follows the line is the command's standard input. Its output, its complaints and, last, its exit code in decimal
 * come back in frames (base_linux.h); a connection that ends without an exit code was cut.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../ctl/lines.h"
#include "../../ctl/verbs.h"
#include "program.h"

#define LINE_BYTES 8192
#define MAX_ARGUMENTS 32

static char g_Root[400];

void DriveSetRoot(const char *root) {
    snprintf(g_Root, sizeof(g_Root), "%s", root);
}

BOOLEAN DriveFile(const char *guestPath, char *file, size_t size) {
    size_t used;

    /* Only plain names below C:\: the guest has no other drive, and nothing outside of it is its. */
    if (strncasecmp(guestPath, "C:\\", 3) != 0 || strstr(guestPath, "..") != NULL || strchr(guestPath, '/') != NULL) {
        return FALSE;
    }
    used = (size_t)snprintf(file, size, "%s/%s", g_Root, guestPath + 3);
    if (used >= size) {
        return FALSE;
    }
    for (char *at = file + strlen(g_Root); *at != '\0'; at++) {
        *at = *at == '\\' ? '/' : *at;
    }
    return TRUE;
}

/* The first line, read byte by byte: what follows belongs to the conversation. */
static BOOLEAN ReadCommand(int connection, char *line) {
    for (size_t length = 0; length + 1 < LINE_BYTES; length++) {
        size_t got;
        if (!ReadSome((HANDLE)(uintptr_t)connection, line + length, 1, &got)) {
            return FALSE;
        }
        if (line[length] == '\n') {
            line[length] = '\0';
            return TRUE;
        }
    }
    return FALSE;
}

/* Blanks separate, double quotes group. */
static int Split(char *line, char **arguments) {
    int count = 0;

    while (*line != '\0' && count < MAX_ARGUMENTS) {
        BOOLEAN quoted = FALSE;
        char *out;

        line += strspn(line, " \t\r");
        if (*line == '\0') {
            break;
        }
        arguments[count++] = out = line;
        while (*line != '\0' && (quoted || strchr(" \t\r", *line) == NULL)) {
            if (*line == '"') {
                quoted = !quoted;
                line++;
            } else {
                *out++ = *line++;
            }
        }
        line += *line != '\0';
        *out = '\0';
    }
    return count;
}

static BOOLEAN IsProgram(const char *word, const char *name) {
    const char *base = strrchr(word, '\\');
    size_t length = strlen(name);

    base = base != NULL ? base + 1 : word;
    return strncasecmp(base, name, length) == 0 && (base[length] == '\0' || strcasecmp(base + length, ".exe") == 0);
}

static void SayOn(LOGIN *login, unsigned char stream, const char *format, va_list arguments) {
    char text[4000];
    int length = vsnprintf(text, sizeof(text), format, arguments);

    WriteAll(FramedHandle(login->Connection, stream), text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

void Say(LOGIN *login, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    SayOn(login, FRAME_STDOUT, format, arguments);
    va_end(arguments);
}

void ComplainTo(LOGIN *login, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    SayOn(login, FRAME_STDERR, format, arguments);
    va_end(arguments);
}

static void Echo(LOGIN *login, int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        Say(login, "%s%s", i > 1 ? " " : "", arguments[i]);
    }
    Say(login, "\r\n");
}

/* `wskctl hello` and `wskctl net`: one line of JSON. */
static void Document(LOGIN *login, const char *verb) {
    char *buffer = Allocate(WSKCTL_LINE_LIMIT);
    DWORD win32 = 0;
    TEXT text;

    TextStart(&text, buffer, WSKCTL_LINE_LIMIT);
    TextAppendString(&text, "{");
    if (strcmp(verb, "hello") == 0) {
        IdentityMembers(&text, NULL);
    } else {
        TextMemberUnsigned(&text, "schema", 1);
        login->Code = NetMembers(&text, WSKCTL_LINE_LIMIT - 4096, &win32) ? EXIT_OK : EXIT_FAILED;
    }
    TextAppendString(&text, "}\n");
    WriteAll(FramedHandle(login->Connection, FRAME_STDOUT), text.data, text.length);
    Free(buffer);
}

/* `wskctl reload NAME TIMES`: see ctl/reload.c for its lines. */
static void Reload(LOGIN *login, const char *name, const char *times) {
    for (int left = atoi(times); left > 0 && login->Code == 0; left--) {
        login->Code = ServiceReload(login, name) ? EXIT_OK : EXIT_FAILED;
    }
}

static void Wskctl(LOGIN *login, int count, char **arguments) {
    if (count == 1 && strcmp(arguments[0], "stdio") == 0) {
        login->Code = Converse((HANDLE)(uintptr_t)login->Connection, FramedHandle(login->Connection, FRAME_STDOUT));
    } else if (count == 1 && (strcmp(arguments[0], "hello") == 0 || strcmp(arguments[0], "net") == 0)) {
        Document(login, arguments[0]);
    } else if (count == 3 && strcmp(arguments[0], "reload") == 0) {
        Reload(login, arguments[1], arguments[2]);
    } else {
        ComplainTo(login, "wskctl of a shim guest has: stdio, hello, net, reload NAME TIMES\r\n");
        login->Code = EXIT_USAGE;
    }
}

static void Execute(LOGIN *login, int count, char **arguments) {
    if (count == 0 || (MoreCommands != NULL && MoreCommands(login, count, arguments))) {
        return;
    }
    if (IsProgram(arguments[0], "wskctl")) {
        Wskctl(login, count - 1, arguments + 1);
    } else if (IsProgram(arguments[0], "sc")) {
        ServiceControl(login, count - 1, arguments + 1);
    } else if (IsProgram(arguments[0], "echo")) {
        Echo(login, count, arguments);
    } else if (IsProgram(arguments[0], "ver")) {
        Say(login, "wsklab shim [Version 10.0.%u]\r\n", ShimOsBuild());
    } else {
        ComplainTo(login, "'%s' is not recognized as a command of a shim guest: echo, sc, ver, wskctl\r\n", arguments[0]);
        login->Code = 9009;
    }
}

void LoginServe(int connection) {
    LOGIN login = {.Connection = connection};
    char *line = Allocate(LINE_BYTES);
    char *arguments[MAX_ARGUMENTS];
    char code[16];

    if (ReadCommand(connection, line)) {
        Execute(&login, Split(line, arguments), arguments);
        WriteAll(FramedHandle(connection, FRAME_EXIT), code, (size_t)snprintf(code, sizeof(code), "%u", (uint32_t)login.Code));
    }
    Free(line);
}
