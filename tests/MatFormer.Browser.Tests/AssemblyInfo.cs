// All tests use one browser and one server, which are started once.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
[assembly: AssemblyFixture(typeof(MatFormer.Browser.Tests.Chromium))]
