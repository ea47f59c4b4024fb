// Live tensors, random states and thread counts are the process's: one test at a time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
