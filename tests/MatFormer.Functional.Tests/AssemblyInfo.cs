// Live tensors are counted per process, so the tests run one after the other.
[assembly: Xunit.CollectionBehavior(DisableTestParallelization = true)]
