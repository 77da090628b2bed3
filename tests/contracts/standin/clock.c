/* What `wskctl clock` does (driver-src/ctl/clock.c), on the Linux of the stand-in. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(void)
{
    char line[64];

    while (fgets(line, sizeof(line), stdin) != NULL) {
        long long moved = strtoll(line, NULL, 10);
        struct timespec now;
        long long total;

        clock_gettime(CLOCK_REALTIME, &now);
        total = now.tv_sec * 1000000000LL + now.tv_nsec + moved;
        now.tv_sec = total / 1000000000LL;
        now.tv_nsec = total % 1000000000LL;
        if (moved != 0 && clock_settime(CLOCK_REALTIME, &now) != 0) {
            printf("{\"win32\": 1314}\n");
        } else {
            clock_gettime(CLOCK_REALTIME, &now);
            printf("{\"unix_ns\": %lld}\n", now.tv_sec * 1000000000LL + now.tv_nsec);
        }
        fflush(stdout);
    }
    return 0;
}
