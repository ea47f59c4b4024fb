// Compiled with the flags that CMakeLists.txt names for it.
#if defined(__x86_64__)
#define MF_TABLE table_avx2
#define MF_NAME "avx2"
#define MF_FAST_PRODUCT false
#include "kernels_cpu_impl.h"
#endif
