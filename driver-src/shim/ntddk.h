/*
 * ntddk.h of the shim: what the driver's sources see of the Windows kernel when they are compiled on Linux.
 *
 * Sizes are those of x64 Windows (LLP64: ULONG has 32 bits, WCHAR 16), and so are the offsets of every member that a
 * driver may look at; a test compares both with what mingw-w64 compiles. Behaviour: shim.h and docs/shim.md.
 * Everything is compiled with -fshort-wchar, so that L"" is a Windows string.
 */
#ifndef WSKLAB_SHIM_NTDDK_H
#define WSKLAB_SHIM_NTDDK_H

#include "nt/types.h"
#include "nt/status.h"
#include "nt/objects.h"
#include "nt/functions.h"

#endif
