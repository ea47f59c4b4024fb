// Each test starts builds, which use all cores.
[assembly: Xunit.CollectionBehavior(DisableTestParallelization = true)]
