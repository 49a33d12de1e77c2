# SPDX-License-Identifier: Apache-2.0
# mlctl_gateway.so, a dynamic module for the nginx whose tree the package nginx-dev ships. Without it
# everything else builds. The module's C is compiled here, with the tree's flags of the binary
# interface (ngx_auto_config.h) and our own warnings; configure also writes the list of modules.
set(NGX_TREE /usr/share/nginx/src)
file(GLOB GATEWAY_CORE CONFIGURE_DEPENDS server/gateway/core/*.c)
file(GLOB GATEWAY_GLUE CONFIGURE_DEPENDS server/gateway/ngx_*.c)
set(GATEWAY_LIB lib/base/clock.c lib/base/err.c lib/base/io.c lib/base/path.c lib/base/str.c
  lib/base/utf8.c lib/codec/json.c lib/rollout/bucket.c lib/rollout/latency.c lib/rollout/tap.c)
if(NOT EXISTS ${NGX_TREE}/conf_flags)
  return()
endif()

set(NGX_BUILD ${CMAKE_BINARY_DIR}/nginx)
set(NGX_CONFIGURED ${NGX_BUILD}/objs/ngx_auto_config.h ${NGX_BUILD}/objs/ngx_mlctl_gateway_module_modules.c)
add_custom_command(OUTPUT ${NGX_CONFIGURED}
  COMMAND ${CMAKE_SOURCE_DIR}/cmake/nginx-configure ${NGX_TREE} ${NGX_BUILD}
  DEPENDS ${NGX_TREE}/conf_flags cmake/nginx-configure VERBATIM)
add_custom_target(nginx_tree DEPENDS ${NGX_CONFIGURED})
set_source_files_properties(${NGX_BUILD}/objs/ngx_mlctl_gateway_module_modules.c PROPERTIES
  COMPILE_OPTIONS "-w;-fvisibility=default")

# gateway_module(NAME SANITIZERS…): the module with or without sanitizers, never those of the preset
function(gateway_module name)
  add_library(${name} MODULE ${GATEWAY_GLUE} ${GATEWAY_CORE} ${GATEWAY_LIB}
    ${NGX_BUILD}/objs/ngx_mlctl_gateway_module_modules.c)
  add_dependencies(${name} nginx_tree)
  set_target_properties(${name} PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_compile_options(${name} PRIVATE ${ARGN}
    $<$<CONFIG:Debug>:-O1> $<$<NOT:$<CONFIG:Debug>>:-O2>)
  string(REGEX MATCHALL "-f[a-z-]*sanitize[^;]*" linked "${ARGN}")
  target_link_options(${name} PRIVATE ${linked} -Wl,-z,relro,-z,now)
  target_include_directories(${name} PRIVATE server)
  foreach(dir core event event/modules os/unix http http/modules http/v2)
    target_include_directories(${name} SYSTEM PRIVATE ${NGX_BUILD}/src/${dir})
  endforeach()
  target_include_directories(${name} SYSTEM PRIVATE ${NGX_BUILD}/objs)
  target_link_libraries(${name} PRIVATE mlc_warnings PkgConfig::JANSSON Threads::Threads m)
endfunction()

set(hardening -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fcf-protection
  $<$<C_COMPILER_ID:GNU>:-ftrivial-auto-var-init=zero>)
gateway_module(mlctl_gateway ${hardening})
if(MLC_SANITIZE MATCHES address)
  gateway_module(mlctl_gateway_asan -fsanitize=address,undefined -fno-sanitize-recover=all)
endif()
install(TARGETS mlctl_gateway DESTINATION lib/nginx/modules)
