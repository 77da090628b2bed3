/*
 * json_echo.c - prints what json.c makes of each line of standard input, for tests on Linux.
 *
 * One line of answer per line: "fault <sentence>" or "ok", then "|name=kind:value" per member, text in
 * hexadecimal. Each line is parsed in an allocation of exactly its size, so that a sanitizer sees a
 * read or write one byte beyond it.
 */
#include "../json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void PrintHex(const char *text, size_t length)
{
    for (size_t index = 0; index < length; index += 1) {
        printf("%02x", (unsigned char)text[index]);
    }
}

static void PrintObject(const JSON_OBJECT *object)
{
    for (size_t index = 0; index < object->count; index += 1) {
        const JSON_MEMBER *member = &object->members[index];
        printf("|");
        PrintHex(member->name, member->name_length);
        printf("=");
        switch (member->kind) {
        case JSON_NULL: printf("null"); break;
        case JSON_TRUE: printf("true"); break;
        case JSON_FALSE: printf("false"); break;
        case JSON_INTEGER: printf("%s%" PRIu64, member->negative ? "-" : "", member->magnitude); break;
        case JSON_STRING: printf("s:"); PrintHex(member->text, member->text_length); break;
        }
    }
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t got;

    while ((got = getline(&line, &capacity, stdin)) > 0) {
        size_t length = (size_t)got - (line[got - 1] == '\n' ? 1 : 0);
        char *exact = malloc(length == 0 ? 1 : length);
        JSON_OBJECT object;
        const char *fault;

        memcpy(exact, line, length);
        fault = JsonParseFlatObject(exact, length, &object);
        printf(fault == NULL ? "ok" : "fault %s", fault);
        PrintObject(&object);
        printf("\n");
        free(exact);
    }
    free(line);
    return 0;
}
