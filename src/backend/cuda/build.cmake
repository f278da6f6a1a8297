# The CUDA module, opened at run time: the program itself never links CUDA. Sets EMB_CUDA_SUMMARY,
# one line that says whether it is built, for which cards, or why not.
# SPDX-License-Identifier: Apache-2.0
set(every_card 75-real 80-real 86-real 89-real 90a-real 90-virtual)

execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/nvcc.sh OUTPUT_VARIABLE nvcc ERROR_VARIABLE why
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
if(nvcc)
  set(ENV{CUDACXX} "${nvcc}")
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE) # so that it is tried again next time
    set(why "${nvcc} does not compile here; CMakeFiles/CMakeError.log says why")
  endif()
endif()

# The architectures of the cards that are here; above Hopper its kernels as PTX.
function(emb_cards_present result)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE found ERROR_QUIET RESULT_VARIABLE status TIMEOUT 20)
  set(list)
  if(status EQUAL 0)
    string(REGEX MATCHALL "[0-9]+[.][0-9]" found "${found}")
    foreach(card ${found})
      string(REPLACE "." "" card ${card})
      if(card EQUAL 90)
        list(APPEND list 90a-real)
      elseif(card GREATER 90)
        list(APPEND list 90-virtual)
      elseif(NOT card LESS 75)
        list(APPEND list ${card}-real)
      endif()
    endforeach()
    list(REMOVE_DUPLICATES list)
  endif()
  set(${result} "${list}" PARENT_SCOPE)
endfunction()

if(why)
  if(NOT EMB_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "the CUDA module needs the CUDA toolkit's compiler: ${why}")
  endif()
  set(EMB_CUDA_SUMMARY "without the CUDA module, for CPUs alone: ${why}")
  return()
endif()

set(for "as asked")
if(NOT CMAKE_CUDA_ARCHITECTURES)
  emb_cards_present(CMAKE_CUDA_ARCHITECTURES)
  set(for "the cards here")
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES OR CMAKE_CUDA_ARCHITECTURES STREQUAL every)
  set(CMAKE_CUDA_ARCHITECTURES ${every_card})
  set(for "every card that it supports")
endif()
enable_language(CUDA)
file(GLOB cuda_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/kernels/*/*.cu
     ${CMAKE_CURRENT_LIST_DIR}/kernels/*.c
     ${CMAKE_CURRENT_LIST_DIR}/host/*.c ${CMAKE_CURRENT_LIST_DIR}/sizes/*.c
     ${CMAKE_SOURCE_DIR}/src/train/cuda/kernels/*.cu ${CMAKE_SOURCE_DIR}/src/train/cuda/host/*.c)
add_library(embound_cuda SHARED ${cuda_files} src/backend/spec.c src/base/error.c
            src/base/ledger.c src/base/process.c src/base/quantize.c src/base/sort.c)
# not find_package(CUDAToolkit): CMake 3.25's stumbles over libraries that CUDA 13 no longer has
target_include_directories(embound_cuda PRIVATE include src
                           ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
list(JOIN CMAKE_CUDA_ARCHITECTURES "," cards)
target_compile_definitions(embound_cuda PRIVATE EMB_BUILD_SHARED EMB_CUDA_ARCHITECTURES="${cards}")
target_link_libraries(embound_cuda PRIVATE ${CMAKE_DL_LIBS})
target_link_options(embound_cuda PRIVATE -Wl,--exclude-libs,ALL)
set_target_properties(embound_cuda PROPERTIES CUDA_STANDARD 17 CUDA_RUNTIME_LIBRARY Static
                      CUDA_VISIBILITY_PRESET hidden C_VISIBILITY_PRESET hidden)
if(EMB_CUDA_DIRECTORY)
  set_target_properties(embound_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${EMB_CUDA_DIRECTORY})
endif()
install(TARGETS embound_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda)
list(JOIN CMAKE_CUDA_ARCHITECTURES " " cards)
set(EMB_CUDA_SUMMARY "with the CUDA module for ${cards} (${for})")
