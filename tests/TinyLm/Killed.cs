using System.Diagnostics;
using System.Globalization;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Kills this process as <c>kill -9</c> does, at a moment that a test chooses by MATFORMER_KILL: a rank, an event, which of these events it
/// is, and milliseconds after it, such as <c>1 reduce 20 3</c>. Events are calls of the communicator (<c>connect</c>, <c>reduce</c>,
/// <c>wait</c>, <c>gather</c>, <c>barrier</c>) and the beginnings and ends of activities (<c>evaluate</c>, <c>evaluated</c>, <c>save</c>,
/// <c>saved</c>). The event <c>write</c> is a temporary file of the folder --out during the given <c>save</c>.
/// </summary>
internal static class Killed
{
    private static readonly object s_lock = new();
    private static string s_event = string.Empty;
    private static int s_left;
    private static int s_milliseconds;
    private static string s_folder = string.Empty;

    /// <summary>Watches a process that a test wants to kill. Call it after the communicators were registered.</summary>
    public static void Watch(string[] arguments)
    {
        var wanted = Environment.GetEnvironmentVariable("MATFORMER_KILL")?.Split(' ');
        if (wanted is not [var rank, var what, var count, var milliseconds]) return;
        (s_left, s_milliseconds) = (Number(count), Number(milliseconds));
        s_folder = arguments[Array.IndexOf(arguments, "--out") + 1];
        Communicators.Add("mpi", () =>
        {
            var ranks = DistributedTraining.ConnectMpi();
            if (ranks.Rank != Number(rank)) return ranks;
            s_event = what;
            Happened("connect");
            return new Watched(ranks);
        });
        ActivitySource.AddActivityListener(new ActivityListener
        {
            ShouldListenTo = source => source.Name == "MatFormer.Training",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStarted = activity => Happened(activity.OperationName.Split(' ')[0]),
            ActivityStopped = activity => Happened(activity.OperationName.Split(' ')[0] + "d"),
        });
    }

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);

    private static void Happened(string what)
    {
        lock (s_lock)
        {
            var isWrite = what == "save" && s_event == "write";
            if ((what != s_event && !isWrite) || --s_left != 0) return;
            if (!isWrite && s_milliseconds == 0) Kill();
            var killing = new Thread(() =>
            {
                while (isWrite && Directory.GetFiles(s_folder, "*.tmp").Length == 0) Thread.SpinWait(10);
                Thread.Sleep(s_milliseconds);
                Kill();
            });
            killing.Start();
        }
    }

    // SIGKILL, which no process can catch.
    private static void Kill()
    {
        using var me = Process.GetCurrentProcess();
        me.Kill();
    }

    private sealed class Watched(ICommunicator ranks) : ICommunicator
    {
        public string Description => ranks.Description;

        public int Rank => ranks.Rank;

        public int Size => ranks.Size;

        public void CheckDevice(Device device) => ranks.CheckDevice(device);

        public ICommunication BeginAllReduce(Tensor tensor)
        {
            var begun = ranks.BeginAllReduce(tensor);
            Happened("reduce");
            return new Waited(begun);
        }

        public ICommunication BeginAllGather(Tensor mine, Tensor all)
        {
            var begun = ranks.BeginAllGather(mine, all);
            Happened("gather");
            return begun;
        }

        public ICommunication BeginBroadcast(Tensor tensor, int root) => ranks.BeginBroadcast(tensor, root);

        public void Barrier()
        {
            Happened("barrier");
            ranks.Barrier();
        }

        public void Abort(string reason) => ranks.Abort(reason);

        public void Dispose() => ranks.Dispose();
    }

    private sealed class Waited(ICommunication begun) : ICommunication
    {
        public TimeSpan Duration => begun.Duration;

        public void Wait()
        {
            Happened("wait");
            begun.Wait();
        }
    }
}
