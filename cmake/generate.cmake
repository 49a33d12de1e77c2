# SPDX-License-Identifier: Apache-2.0
# Code made at build time: statements from server/**/*.sql, routes and decoders from include/api/*.yaml.
set(MLC_GENERATED_DIR ${CMAKE_BINARY_DIR}/gen)
set(MLC_GENERATED "")
set(MLC_GEN ${CMAKE_SOURCE_DIR}/lib/api/gen)

file(GLOB_RECURSE SQL_SOURCES CONFIGURE_DEPENDS server/*.sql)
foreach(sql ${SQL_SOURCES})
  get_filename_component(name ${sql} NAME)
  set(out ${MLC_GENERATED_DIR}/gen/${name}.h)
  add_custom_command(OUTPUT ${out}
    COMMAND ${Python3_EXECUTABLE} ${MLC_GEN}/sqlgen.py header ${sql} ${out}
    DEPENDS ${sql} ${MLC_GEN}/sqlgen.py VERBATIM)
  list(APPEND MLC_GENERATED ${out})
endforeach()
set(out ${MLC_GENERATED_DIR}/gen/all_statements)
add_custom_command(OUTPUT ${out}.c ${out}.h
  COMMAND ${Python3_EXECUTABLE} ${MLC_GEN}/sqlgen.py table ${out}.c ${out}.h ${SQL_SOURCES}
  DEPENDS ${SQL_SOURCES} ${MLC_GEN}/sqlgen.py VERBATIM)
list(APPEND MLC_GENERATED ${out}.c ${out}.h)

file(GLOB MIGRATIONS CONFIGURE_DEPENDS migrations/*.sql)
set(out ${MLC_GENERATED_DIR}/gen/migrations.c)
add_custom_command(OUTPUT ${out}
  COMMAND ${Python3_EXECUTABLE} ${MLC_GEN}/migrations.py ${out} ${MIGRATIONS}
  DEPENDS ${MIGRATIONS} ${MLC_GEN}/migrations.py VERBATIM)
list(APPEND MLC_GENERATED ${out})

# a capability's operations are served once its x_api.c exists
file(GLOB API_ALL CONFIGURE_DEPENDS include/api/*.yaml)
set(API_SOURCES "")
foreach(yaml ${API_ALL})
  get_filename_component(name ${yaml} NAME_WE)
  file(GLOB_RECURSE handlers CONFIGURE_DEPENDS server/${name}_api.c)
  if(handlers)
    list(APPEND API_SOURCES ${yaml})
  endif()
endforeach()
set(out ${MLC_GENERATED_DIR}/gen/api)
add_custom_command(OUTPUT ${out}.h ${out}.c
  COMMAND ${Python3_EXECUTABLE} ${MLC_GEN}/apigen.py ${PROJECT_VERSION} ${out}.h ${out}.c ${API_SOURCES}
  DEPENDS ${API_SOURCES} ${MLC_GEN}/apigen.py ${MLC_GEN}/contract.py VERBATIM)
list(APPEND MLC_GENERATED ${out}.h ${out}.c)
