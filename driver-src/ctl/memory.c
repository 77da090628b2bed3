/* memory.c - memory, text conversion, and the functions that gcc calls by itself. See base.h. */
#include "base.h"

/*
 * `rep movsb` and `rep stosb` are written out because gcc would turn a plain loop into a call of the
 * very function that it is in.
 */
void *memcpy(void *__restrict__ target, const void *__restrict__ source, size_t length)
{
    void *to = target;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(source), "+c"(length) : : "memory");
    return target;
}

void *memset(void *target, int value, size_t length)
{
    void *to = target;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(value) : "memory");
    return target;
}

void *memmove(void *target, const void *source, size_t length)
{
    char *to = target;
    const char *from = source;

    if (to <= from || to >= from + length) {
        return memcpy(target, source, length);
    }
    while (length > 0) {
        length -= 1;
        ((volatile char *)to)[length] = from[length];
    }
    return target;
}

int memcmp(const void *left, const void *right, size_t length)
{
    const unsigned char *a = left;
    const unsigned char *b = right;
    size_t index;

    for (index = 0; index < length; index += 1) {
        if (a[index] != b[index]) {
            return a[index] < b[index] ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *text)
{
    const volatile char *at = text;

    while (*at != '\0') {
        at += 1;
    }
    return (size_t)((const char *)at - text);
}

char *strchr(const char *text, int wanted)
{
    for (;; text += 1) {
        if (*text == (char)wanted) {
            return (char *)text;
        }
        if (*text == '\0') {
            return NULL;
        }
    }
}

void *Allocate(size_t size)
{
    return HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, size == 0 ? 1 : size);
}

void Free(void *memory)
{
    if (memory != NULL) {
        HeapFree(GetProcessHeap(), 0, memory);
    }
}

WCHAR *Utf16FromUtf8(const char *text, size_t length)
{
    WCHAR *wide;
    int units;
    size_t index;

    if (length > 32767) {
        return NULL;
    }
    for (index = 0; index < length; index += 1) {
        if (text[index] == '\0') {
            return NULL;
        }
    }
    wide = Allocate((length + 1) * sizeof(WCHAR));
    if (wide == NULL || length == 0) {
        return wide;
    }
    units = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, (int)length, wide, (int)length);
    if (units == 0) {
        Free(wide);
        return NULL;
    }
    wide[units] = L'\0';
    return wide;
}

char *Utf8FromUtf16(const WCHAR *text)
{
    int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *narrow = size > 0 ? Allocate((size_t)size) : NULL;

    if (narrow != NULL) {
        WideCharToMultiByte(CP_UTF8, 0, text, -1, narrow, size, NULL, NULL);
    }
    return narrow;
}

int ParseNumber(const char *text, uint64_t maximum, uint64_t *value)
{
    uint64_t base = 10;
    uint64_t digit;

    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    if (*text == '\0') {
        return 0;
    }
    *value = 0;
    for (; *text != '\0'; text += 1) {
        char folded = (char)(*text | 0x20);
        if (*text >= '0' && *text <= '9') {
            digit = (uint64_t)(*text - '0');
        } else if (base == 16 && folded >= 'a' && folded <= 'f') {
            digit = (uint64_t)(folded - 'a' + 10);
        } else {
            return 0;
        }
        if (*value > (maximum - digit) / base || digit > maximum) {
            return 0;
        }
        *value = *value * base + digit;
    }
    return 1;
}

int SameText(const char *left, const char *right)
{
    size_t length = strlen(left);

    return length == strlen(right) && memcmp(left, right, length) == 0;
}
