# Clang and lld for x64 Windows, with mingw-w64's headers and import libraries: the build that has a PDB, which WinDbg
# reads (it does not read gcc's DWARF). Debian: clang and lld, beside gcc-mingw-w64-x86-64.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER clang)
set(CMAKE_C_COMPILER_TARGET x86_64-w64-windows-gnu) # finds the headers through the mingw-w64 gcc in PATH
# A driver links neither a C runtime nor a start file, so the compiler cannot make a test program.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
