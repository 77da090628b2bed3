/*
 * login_commands.c: commands that the tests of the lab's channel need (tests/contracts/channel_contract.py).
 */
#include "program.h"

#include <poll.h>
#include <stdlib.h>

#include "../../ctl/lines.h"

#define FLOOD_TURNS 48
#define FLOOD_BYTES 65536

static void Flood(LOGIN *login) {
    char *bytes = malloc(FLOOD_BYTES);

    memset(bytes, 'x', FLOOD_BYTES);
    for (ULONG i = 0; i < FLOOD_TURNS; i++) {
        WriteAll(FramedHandle(login->Connection, FRAME_STDOUT), bytes, FLOOD_BYTES);
        WriteAll(FramedHandle(login->Connection, FRAME_STDERR), bytes, FLOOD_BYTES);
    }
    free(bytes);
}

static void EchoStream(LOGIN *login) {
    char bytes[4096];
    size_t got;

    ComplainTo(login, "echo ready\n");
    while (ReadSome((HANDLE)(uintptr_t)login->Connection, bytes, sizeof(bytes), &got)) {
        WriteAll(FramedHandle(login->Connection, FRAME_STDOUT), bytes, got);
    }
}

/* Until the other side hangs up altogether; the end of its input is not enough. */
static void Hang(LOGIN *login) {
    struct pollfd hangup = {.fd = login->Connection};
    LARGE_INTEGER tick = {.QuadPart = -100000};

    while (poll(&hangup, 1, 0) == 0) {
        KeDelayExecutionThread(KernelMode, FALSE, &tick);
    }
    login->Code = 1;
}

BOOLEAN MoreCommands(LOGIN *login, int count, char **arguments) {
    UNREFERENCED_PARAMETER(count);
    if (strcmp(arguments[0], "say-hello") == 0) {
        Say(login, "hello\n");
    } else if (strcmp(arguments[0], "fail-with-7") == 0) {
        ComplainTo(login, "bad thing\n");
        login->Code = 7;
    } else if (strcmp(arguments[0], "flood") == 0) {
        Flood(login);
    } else if (strcmp(arguments[0], "echo-stream") == 0) {
        EchoStream(login);
    } else if (strcmp(arguments[0], "hang") == 0) {
        Hang(login);
    } else {
        return FALSE;
    }
    return TRUE;
}
