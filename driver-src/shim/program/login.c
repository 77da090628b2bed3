/*
 * login.c: one login of a shim guest: a connection whose first line is a command line.
 *
 * `C:\wsklab\wskctl.exe stdio` turns the connection into a conversation; every other command is answered by one line of
 * JSON, {"exit_code": N, "stdout": "...", "stderr": "..."}, and the connection is closed.
 */
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

static void Echo(OUTPUT *output, int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        OutputSay(output, "%s%s", i > 1 ? " " : "", arguments[i]);
    }
    OutputSay(output, "\r\n");
}

/* `wskctl hello` and `wskctl net`: one line of JSON. */
static void Document(OUTPUT *output, const char *verb) {
    TEXT text;
    DWORD win32 = 0;

    TextStart(&text, output->Out, sizeof(output->Out) - 4);
    TextAppendString(&text, "{");
    if (strcmp(verb, "hello") == 0) {
        IdentityMembers(&text, NULL);
    } else {
        TextMemberUnsigned(&text, "schema", 1);
        output->Code = NetMembers(&text, sizeof(output->Out) - 1024, &win32) ? 0 : 1;
    }
    TextAppendString(&text, "}\n");
    text.data[text.length] = '\0';
}

static void Execute(OUTPUT *output, int count, char **arguments) {
    if (count == 0) {
        return;
    }
    if (IsProgram(arguments[0], "sc")) {
        ServiceControl(output, count - 1, arguments + 1);
    } else if (IsProgram(arguments[0], "echo")) {
        Echo(output, count, arguments);
    } else if (IsProgram(arguments[0], "ver")) {
        OutputSay(output, "wsklab shim [Version 10.0.%u]\r\n", ShimOsBuild());
    } else if (IsProgram(arguments[0], "exit")) {
        output->Code = count > 1 ? atoi(arguments[count - 1]) : 0;
    } else if (IsProgram(arguments[0], "wskctl") && count == 2 &&
               (strcmp(arguments[1], "hello") == 0 || strcmp(arguments[1], "net") == 0)) {
        Document(output, arguments[1]);
    } else {
        OutputComplain(output, "'%s' is not recognized as a command of a shim guest: sc, echo, ver, exit, wskctl\r\n", arguments[0]);
        output->Code = 9009;
    }
}

static void Answer(int connection, const OUTPUT *output) {
    size_t capacity = 6 * (sizeof(output->Out) + sizeof(output->Error)) + 256;
    char *buffer = Allocate(capacity);
    TEXT text;

    TextStart(&text, buffer, capacity);
    TextAppendString(&text, "{");
    TextMemberUnsigned(&text, "exit_code", (uint32_t)output->Code);
    TextMemberString(&text, "stdout", output->Out);
    TextMemberString(&text, "stderr", output->Error);
    TextAppendString(&text, "}\n");
    WriteAll((HANDLE)(uintptr_t)connection, text.data, text.length);
    Free(buffer);
}

void LoginServe(int connection) {
    char *line = Allocate(LINE_BYTES);
    OUTPUT *output = Allocate(sizeof(*output));
    char *arguments[MAX_ARGUMENTS];
    int count;

    if (ReadCommand(connection, line)) {
        count = Split(line, arguments);
        if (count == 2 && IsProgram(arguments[0], "wskctl") && strcmp(arguments[1], "stdio") == 0) {
            Converse((HANDLE)(uintptr_t)connection, (HANDLE)(uintptr_t)connection);
        } else {
            Execute(output, count, arguments);
            Answer(connection, output);
        }
    }
    Free(line);
    Free(output);
}
