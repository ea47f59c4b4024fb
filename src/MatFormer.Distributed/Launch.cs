using System.Globalization;

namespace MatFormer;

/// <summary>What the environment says about the launcher of this process.</summary>
internal static class Launch
{
    /// <summary>Whether the mpirun of Open MPI started this process.</summary>
    public static bool IsOpenMpi => Has("OMPI_COMM_WORLD_RANK");

    /// <summary>Whether the launcher of MPICH or of a library of its family started this process, or srun, which can start both.</summary>
    public static bool IsMpich => !IsOpenMpi && (Has("PMI_RANK") || Has("PMI_FD") || Has("MPI_LOCALRANKID"));

    /// <summary>Whether a launcher of an MPI started this process.</summary>
    public static bool IsMpi => IsOpenMpi || IsMpich || Has("PMIX_RANK");

    /// <summary>Whether the launcher set the variables of torchrun.</summary>
    public static bool IsTorchrun => Has("RANK") && Has("WORLD_SIZE") && Has("MASTER_ADDR") && Has("MASTER_PORT");

    /// <summary>The number of processes that the launcher of an MPI started; null if it does not say.</summary>
    public static int? MpiSize => Number("OMPI_COMM_WORLD_SIZE") ?? Number("PMI_SIZE");

    /// <summary>The number of this process among those on its machine; null if the launcher does not say.</summary>
    public static int? LocalRank =>
        Number("LOCAL_RANK") ?? Number("OMPI_COMM_WORLD_LOCAL_RANK") ?? Number("MPI_LOCALRANKID") ?? Number("SLURM_LOCALID");

    /// <summary>Returns a number of the environment.</summary>
    /// <exception cref="DistributedException">The variable is missing or not a number.</exception>
    public static int Required(string name) => Number(name) ?? throw new DistributedException(
        $"The environment variable {name} is '{Environment.GetEnvironmentVariable(name)}' instead of a number; start the processes with "
        + "torchrun.");

    private static bool Has(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 };

    private static int? Number(string name) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        ? number : null;
}
