/* text.c - see text.h. */
#include "text.h"

#include "json.h"

#include <string.h>

static const char HexDigits[] = "0123456789abcdef";

void TextStart(TEXT *text, char *data, size_t capacity)
{
    text->data = data;
    text->capacity = capacity;
    text->length = 0;
    text->overflow = 0;
}

void TextAppend(TEXT *text, const char *bytes, size_t length)
{
    if (text->overflow || length > text->capacity - text->length) {
        text->overflow = 1;
        return;
    }
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
}

void TextAppendString(TEXT *text, const char *string)
{
    TextAppend(text, string, strlen(string));
}

void TextAppendUnsigned(TEXT *text, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        at -= 1;
        digits[at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    TextAppend(text, digits + at, sizeof(digits) - at);
}

void TextAppendQuoted(TEXT *text, const char *string, size_t length)
{
    int valid = JsonIsUtf8(string, length);
    size_t index;

    TextAppend(text, "\"", 1);
    for (index = 0; index < length; index += 1) {
        unsigned char byte = (unsigned char)string[index];
        if (byte == '"' || byte == '\\') {
            TextAppend(text, "\\", 1);
            TextAppend(text, string + index, 1);
        } else if (byte < 0x20) {
            char escape[6] = {'\\', 'u', '0', '0', HexDigits[byte >> 4], HexDigits[byte & 15]};
            TextAppend(text, escape, sizeof(escape));
        } else if (byte >= 0x80 && !valid) {
            TextAppend(text, "?", 1);
        } else {
            TextAppend(text, string + index, 1);
        }
    }
    TextAppend(text, "\"", 1);
}

void TextMemberName(TEXT *text, const char *name)
{
    char last = text->length == 0 ? '{' : text->data[text->length - 1];

    if (last != '{' && last != '[') {
        TextAppend(text, ",", 1);
    }
    TextAppend(text, "\"", 1);
    TextAppendString(text, name);
    TextAppend(text, "\":", 2);
}

void TextMemberString(TEXT *text, const char *name, const char *string)
{
    TextMemberName(text, name);
    if (string == NULL) {
        TextAppendString(text, "null");
    } else {
        TextAppendQuoted(text, string, strlen(string));
    }
}

void TextMemberUnsigned(TEXT *text, const char *name, uint64_t value)
{
    TextMemberName(text, name);
    TextAppendUnsigned(text, value);
}

void TextMemberBoolean(TEXT *text, const char *name, int value)
{
    TextMemberName(text, name);
    TextAppendString(text, value ? "true" : "false");
}

void TextMemberHex(TEXT *text, const char *name, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;
    size_t index;

    TextMemberName(text, name);
    TextAppend(text, "\"", 1);
    if (text->overflow || length * 2 > text->capacity - text->length) {
        text->overflow = 1;
        return;
    }
    for (index = 0; index < length; index += 1) {
        text->data[text->length] = HexDigits[from[index] >> 4];
        text->data[text->length + 1] = HexDigits[from[index] & 15];
        text->length += 2;
    }
    TextAppend(text, "\"", 1);
}

static int HexValue(char digit)
{
    char folded = (char)(digit | 0x20);

    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return folded >= 'a' && folded <= 'f' ? folded - 'a' + 10 : -1;
}

int HexDecode(const char *hex, size_t length, unsigned char *bytes)
{
    size_t index;

    if (length % 2 != 0) {
        return 0;
    }
    for (index = 0; index < length; index += 2) {
        int high = HexValue(hex[index]);
        int low = HexValue(hex[index + 1]);
        if (high < 0 || low < 0) {
            return 0;
        }
        bytes[index / 2] = (unsigned char)(high * 16 + low);
    }
    return 1;
}
