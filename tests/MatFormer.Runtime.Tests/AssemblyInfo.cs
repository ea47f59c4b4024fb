// The random numbers and threads of libtorch are global, so tests must not run in parallel.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
