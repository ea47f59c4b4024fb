// Each test has engines with threads of their own, which would wait for one another's.
[assembly: Xunit.CollectionBehavior(DisableTestParallelization = true)]
