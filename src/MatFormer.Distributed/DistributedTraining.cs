namespace MatFormer;

/// <summary>
/// Training on several processes, over MPI or NCCL (docs/distributed.md). A model program needs one more line:
/// <code>
/// DistributedTraining.Register();
/// return await ModelProgram.RunAsync&lt;DocsLm&gt;(args);
/// </code>
/// Then <c>mpirun -n 4 dotnet DocsLm.dll train --distributed mpi</c> trains on four processes.
/// </summary>
public static class DistributedTraining
{
    /// <summary>Lets <c>train --distributed</c> take <c>mpi</c> and <c>nccl</c>. No library is loaded before one is used.</summary>
    public static void Register()
    {
        Communicators.Add("mpi", ConnectMpi);
        Communicators.Add("nccl", ConnectNccl);
    }

    /// <summary>
    /// Connects the processes that <c>mpirun</c>, <c>mpiexec</c> or <c>srun</c> started, over Open MPI or MPICH. A process can connect
    /// once.
    /// </summary>
    /// <exception cref="DistributedException">
    /// The MPI library that started the process is not found, or does not know the other processes.
    /// </exception>
    public static ICommunicator ConnectMpi() => MpiCommunicator.Connect();

    /// <summary>
    /// Connects processes with one NVIDIA GPU each, over NCCL. The processes were started by MPI, or by <c>torchrun</c> or another launcher
    /// that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. It was never run on several GPUs.
    /// </summary>
    /// <exception cref="DistributedException">NCCL is not found, there is no GPU, or the processes do not find each other.</exception>
    public static ICommunicator ConnectNccl() => NcclCommunicator.Connect();
}
