# The driver's sources and the header that names their digest; for wsklab.sys and for the kernel shim.
set(sources
    answer.c argument.c buffer.c call.c callback_tables.c callbacks.c cancel.c client.c completion.c control.c device.c
    failures.c faults.c forward.c function.c hold.c indication.c inspect.c ioctl.c issue.c keeper.c ledger.c main.c members.c memory.c names.c nmr.c
    object.c operation.c platform.c quiesce.c ring.c routines_client.c routines_data.c routines_socket.c
    sample_listen.c script.c socket.c submit.c teardown.c threads.c thunks.c wait.c wsk_registration.c)
file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.h ${CMAKE_CURRENT_LIST_DIR}/../include/*.h)
list(TRANSFORM sources PREPEND ${CMAKE_CURRENT_LIST_DIR}/ OUTPUT_VARIABLE full_sources)

set(build_info ${CMAKE_CURRENT_BINARY_DIR}/generated/wsklab_build.h)
set(digested ${full_sources} ${headers})
add_custom_command(OUTPUT ${build_info}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/generated
    COMMAND ${CMAKE_COMMAND} "-DOUT=${build_info}" "-DSOURCES=${digested}" "-DLABEL=wsklab 0.1.0"
            -P ${CMAKE_CURRENT_LIST_DIR}/../cmake/build_info.cmake
    DEPENDS ${digested} ${CMAKE_CURRENT_LIST_DIR}/../cmake/build_info.cmake
    VERBATIM)

