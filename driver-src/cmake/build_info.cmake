# Writes wsklab_build.h: a digest over the driver's sources, and a label. Run as a script:
#   cmake -DOUT=file -DSOURCES=a;b -DLABEL=text -P build_info.cmake
# or -DSOURCES_FILE=list, one path a line, where a command line would be too long (wsklab.vcxproj).
if(SOURCES_FILE)
    file(STRINGS "${SOURCES_FILE}" SOURCES)
endif()
set(all "")
foreach(source IN LISTS SOURCES)
    file(SHA256 "${source}" digest)
    get_filename_component(name "${source}" NAME)
    string(APPEND all "${name} ${digest}\n")
endforeach()
string(SHA256 digest "${all}")
string(REGEX REPLACE "(..)" "0x\\1, " bytes "${digest}")
file(WRITE "${OUT}.new"
    "/* Made by cmake/build_info.cmake. */\n#define WSKLAB_BUILD_DIGEST {${bytes}}\n#define WSKLAB_BUILD_LABEL \"${LABEL}\"\n")
file(COPY_FILE "${OUT}.new" "${OUT}" ONLY_IF_DIFFERENT)
