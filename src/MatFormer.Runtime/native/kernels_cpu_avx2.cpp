// build.sh names the compiler flags of this file.
#if defined(__x86_64__)
#define MF_TABLE table_avx2
#define MF_NAME "avx2"
#include "kernels_cpu_impl.h"
#endif
