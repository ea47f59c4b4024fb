// Each test has engines with several threads, which would compete with those of other tests.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
