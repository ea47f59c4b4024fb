// Live tensors are counted per process: tests run one after the other.
[assembly: Xunit.CollectionBehavior(DisableTestParallelization = true)]
