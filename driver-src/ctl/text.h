/*
 * text.h - one line of JSON built into a bounded buffer.
 *
 * An overflow is remembered, never written: the caller looks at `overflow` once, at the end.
 */
#ifndef WSKCTL_TEXT_H
#define WSKCTL_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct TEXT {
    char *data;
    size_t capacity;
    size_t length;
    int overflow;
} TEXT;

void TextStart(TEXT *text, char *data, size_t capacity);
void TextAppend(TEXT *text, const char *bytes, size_t length);
void TextAppendString(TEXT *text, const char *string);
void TextAppendUnsigned(TEXT *text, uint64_t value);
/* A JSON string with quotes and escapes; malformed UTF-8 becomes '?', so that the line stays JSON. */
void TextAppendQuoted(TEXT *text, const char *string, size_t length);

/* Members: each writes a comma first unless it follows an opening brace or bracket. `name` needs no escapes. */
void TextMemberName(TEXT *text, const char *name);
void TextMemberString(TEXT *text, const char *name, const char *string);
void TextMemberUnsigned(TEXT *text, const char *name, uint64_t value);
void TextMemberBoolean(TEXT *text, const char *name, int value);
void TextMemberHex(TEXT *text, const char *name, const void *bytes, size_t length);

/* Hexadecimal text to bytes; 0 when the text is odd or holds something else. bytes has room for half of it. */
int HexDecode(const char *hex, size_t length, unsigned char *bytes);

#endif
