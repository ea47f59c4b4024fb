// torch's random numbers and threads are global.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
