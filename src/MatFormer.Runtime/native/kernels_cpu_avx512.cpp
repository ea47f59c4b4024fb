// Compiled with the flags that build.sh names for it.
#if defined(__x86_64__)
#define MF_TABLE table_avx512
#define MF_NAME "avx512"
#include "kernels_cpu_impl.h"
#endif
