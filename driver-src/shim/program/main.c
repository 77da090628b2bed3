/*
 * main.c: wsklab-shim.
 *
 *   wsklab-shim stdio --driver FILE [--service NAME]       one conversation as `wskctl stdio` has it, with one driver
 *   wsklab-shim listen --socket PATH --root DIRECTORY [--lifeline FD]
 *                                                          a guest: logins on a UNIX socket, C:\ is the directory; it
 *                                                          ends when nobody has the other end of the pipe FD any more
 *
 * Both: --os-build N, --like-wine, --random (draw what may go either way), --seed N. The end of the input, SIGTERM and
 * SIGINT end it in order: everything is closed, every driver unloaded, and what is left over is an error.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../ctl/verbs.h"
#include "program.h"

typedef struct ARGUMENTS {
    const char *Mode;
    const char *Driver;
    const char *Service;
    const char *Socket;
    const char *Root;
    int Lifeline;
    SHIM_OPTIONS Options;
} ARGUMENTS;

#define MAX_LOGINS 128

static int g_StopEvent = -1;
static KEVENT g_Idle; /* set when no login is left */
static LONG g_Logins;
static KSPIN_LOCK g_ConnectionsLock;
static int g_Connections[MAX_LOGINS];

static void OnSignal(int number) {
    uint64_t one = 1;

    (void)number;
    if (write(g_StopEvent, &one, sizeof(one)) < 0) {
        _exit(EXIT_FAILED);
    }
}

static int Usage(void) {
    fprintf(stderr, "usage: wsklab-shim stdio --driver FILE [--service NAME]\n"
                    "       wsklab-shim listen --socket PATH --root DIRECTORY [--lifeline FD]\n"
                    "       [--os-build N] [--like-wine] [--random] [--seed N]\n");
    return EXIT_USAGE;
}

static BOOLEAN Parse(int count, char **words, ARGUMENTS *out) {
    out->Mode = count > 1 ? words[1] : "";
    out->Service = "wsklab";
    for (int i = 2; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : NULL;
        if (strcmp(words[i], "--like-wine") == 0) {
            out->Options.LikeWine = TRUE;
            continue;
        }
        if (strcmp(words[i], "--random") == 0) {
            out->Options.RandomChoices = TRUE;
            continue;
        }
        if (value == NULL) {
            return FALSE;
        }
        i++;
        if (strcmp(words[i - 1], "--driver") == 0) {
            out->Driver = value;
        } else if (strcmp(words[i - 1], "--service") == 0) {
            out->Service = value;
        } else if (strcmp(words[i - 1], "--socket") == 0) {
            out->Socket = value;
        } else if (strcmp(words[i - 1], "--root") == 0) {
            out->Root = value;
        } else if (strcmp(words[i - 1], "--lifeline") == 0) {
            out->Lifeline = (int)strtol(value, NULL, 10);
        } else if (strcmp(words[i - 1], "--os-build") == 0) {
            out->Options.OsBuild = (ULONG)strtoul(value, NULL, 10);
        } else if (strcmp(words[i - 1], "--seed") == 0) {
            out->Options.Seed = strtoull(value, NULL, 10);
        } else {
            return FALSE;
        }
    }
    return TRUE;
}

static int Stdio(const ARGUMENTS *arguments) {
    PEPROCESS process = ShimProcessCreate("wskctl", (ULONG)getpid(), TRUE);
    int code = EXIT_FAILED;

    ShimThreadMove(process);
    if (ServiceRun(arguments->Service, arguments->Driver)) {
        code = VerbStdio(0, NULL);
    }
    ServicesEnd();
    ShimThreadMove(NULL);
    ShimProcessRelease(process);
    return code;
}

/* ---- A guest: logins on a socket -------------------------------------------------------------------------------------- */

static void RememberConnection(int connection, BOOLEAN add) {
    KIRQL irql;

    KeAcquireSpinLock(&g_ConnectionsLock, &irql);
    for (ULONG i = 0; i < MAX_LOGINS; i++) {
        if (g_Connections[i] == (add ? 0 : connection)) {
            g_Connections[i] = add ? connection : 0;
            break;
        }
    }
    KeReleaseSpinLock(&g_ConnectionsLock, irql);
}

static void Login(void *context) {
    int connection = (int)(uintptr_t)context;

    LoginServe(connection);
    RememberConnection(connection, FALSE);
    close(connection);
    if (InterlockedDecrement(&g_Logins) == 0) {
        KeSetEvent(&g_Idle, IO_NO_INCREMENT, FALSE);
    }
}

static void Accept(int listener) {
    static ULONG processes = 1000;
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    PEPROCESS process;
    SHIM_THREAD *thread;

    if (connection < 0) {
        return;
    }
    if (InterlockedIncrement(&g_Logins) > MAX_LOGINS) {
        InterlockedDecrement(&g_Logins);
        close(connection);
        return;
    }
    KeClearEvent(&g_Idle);
    RememberConnection(connection, TRUE);
    process = ShimProcessCreate("login", processes += 4, TRUE);
    thread = ShimThreadStartIn(process, "login", Login, (void *)(uintptr_t)connection);
    if (thread == NULL) {
        ShimAbort("shim", "the host has no thread for a login");
    }
    ObDereferenceObject(thread); /* it ends by itself */
    ShimProcessRelease(process);
}

/* Every login sees the end of its input. */
static void EndLogins(void) {
    LARGE_INTEGER limit = {.QuadPart = -60 * 10000000ll};
    KIRQL irql;

    KeAcquireSpinLock(&g_ConnectionsLock, &irql);
    for (ULONG i = 0; i < MAX_LOGINS; i++) {
        if (g_Connections[i] != 0) {
            shutdown(g_Connections[i], SHUT_RDWR);
        }
    }
    KeReleaseSpinLock(&g_ConnectionsLock, irql);
    if (g_Logins > 0 && KeWaitForSingleObject(&g_Idle, Executive, KernelMode, FALSE, &limit) == STATUS_TIMEOUT) {
        ShimAbort("login-stuck", "%d logins do not end", g_Logins);
    }
}

static int MakeListener(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "wsklab-shim: the path of the socket is too long: %s\n", path);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    unlink(path);
    umask(0077);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 64) != 0) {
        fprintf(stderr, "wsklab-shim: cannot listen on %s: %s\n", path, strerror(errno));
        return -1;
    }
    return listener;
}

static int Listen(const ARGUMENTS *arguments) {
    int listener = MakeListener(arguments->Socket);
    int all = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event listening = {.events = EPOLLIN, .data.fd = listener};
    struct epoll_event stopping = {.events = EPOLLIN, .data.fd = g_StopEvent};
    struct epoll_event ending = {.events = EPOLLIN, .data.fd = arguments->Lifeline};
    struct epoll_event event;

    if (listener < 0) {
        return EXIT_FAILED;
    }
    DriveSetRoot(arguments->Root);
    KeInitializeSpinLock(&g_ConnectionsLock);
    KeInitializeEvent(&g_Idle, NotificationEvent, TRUE);
    epoll_ctl(all, EPOLL_CTL_ADD, listener, &listening);
    epoll_ctl(all, EPOLL_CTL_ADD, g_StopEvent, &stopping);
    if (arguments->Lifeline > 0) {
        epoll_ctl(all, EPOLL_CTL_ADD, arguments->Lifeline, &ending);
    }
    fprintf(stderr, "wsklab-shim: ready pid=%d build=%u\n", (int)getpid(), ShimOsBuild());
    for (;;) {
        ShimWaitReadable(all, -1);
        if (epoll_wait(all, &event, 1, 0) != 1) {
            continue;
        }
        if (event.data.fd != listener) {
            break; /* a signal, or the end of whoever started us */
        }
        Accept(listener);
    }
    close(listener);
    close(all);
    unlink(arguments->Socket);
    EndLogins();
    ServicesEnd();
    return EXIT_OK;
}

int main(int count, char **words) {
    ARGUMENTS arguments = {.Mode = NULL};
    int code;

    if (!Parse(count, words, &arguments) ||
        !((strcmp(arguments.Mode, "stdio") == 0 && arguments.Driver != NULL) ||
          (strcmp(arguments.Mode, "listen") == 0 && arguments.Socket != NULL && arguments.Root != NULL))) {
        return Usage();
    }
    g_StopEvent = eventfd(0, EFD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, OnSignal);
    signal(SIGINT, OnSignal);
    IdentityStart();
    ShimStart(&arguments.Options);
    code = strcmp(arguments.Mode, "stdio") == 0 ? Stdio(&arguments) : Listen(&arguments);
    ShimStop();
    if (code == EXIT_OK) {
        fprintf(stderr, "wsklab-shim: nothing is left over\n");
    }
    return code;
}
