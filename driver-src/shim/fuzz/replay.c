/*
 * replay.c: a fuzz target without libFuzzer: runs the inputs in the folders that it is given, once each. For builds that
 * libFuzzer cannot be part of, such as the one that counts lines.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

#define INPUT_BYTES 4096

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int Replay(const char *folder) {
    DIR *entries = opendir(folder);
    struct dirent *entry;
    int ran = 0;

    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        static uint8_t data[INPUT_BYTES];
        char path[1024];
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (file != NULL) {
            LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
            fclose(file);
            ran++;
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
    return ran;
}

int main(int count, char **arguments) {
    int ran = 0;

    LLVMFuzzerInitialize(&count, &arguments);
    for (int i = 1; i < count; i++) {
        ran += Replay(arguments[i]);
    }
    printf("replayed %d\n", ran);
    return ran > 0 ? 0 : 1;
}
