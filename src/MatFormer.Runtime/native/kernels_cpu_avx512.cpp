// build.sh names the compiler flags of this file.
#if defined(__x86_64__)
#define MF_TABLE table_avx512
#define MF_NAME "avx512"
#include "kernels_cpu_impl.h"
#endif
