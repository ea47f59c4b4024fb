using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The cross-entropy of each stream.</summary>
internal sealed unsafe class CrossEntropyCall : CpuCall
{
    private readonly Tensor _x;
    private readonly Tensor _head;
    private readonly Tensor _targets;
    private readonly int[]? _rows;
    private CpuLibrary.CrossEntropy _call;

    public CrossEntropyCall(Tensor input, Tensor x, Tensor head, Tensor targets, int[] rows, bool isShared)
    {
        (_x, _head, _targets) = (x, head, targets);
        _rows = isShared ? null : rows;
        Inputs = [input];
        InputCount = 1;
        Weights = [head];
        long[] shape = x.shape;
        _call = new CpuLibrary.CrossEntropy
        {
            Element = ElementOf(x.dtype),
            Batch = shape[0],
            Time = shape[1],
            Width = shape[2],
            Streams = rows.Length,
            Head = Native(head),
            X = (void*)TensorMemory.Of(x),
            Targets = (void*)TensorMemory.Of(targets),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        var losses = empty(_call.Streams, ScalarType.Float32);
        _call.Losses = (void*)TensorMemory.Of(losses);
        fixed (int* rows = _rows)
        fixed (CpuLibrary.CrossEntropy* call = &_call)
        {
            call->Rows = rows;
            if (isRecorded)
            {
                Keep(_x);
                Keep(_targets);
                call->Kept = (void*)TensorMemory.Of(Keep(CpuLibrary.mf_cross_entropy_kept(call)));
            }

            CpuLibrary.Check(CpuLibrary.mf_cross_entropy_forward(call));
        }

        return losses;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = empty([_call.Batch, _call.Time, _call.Width], _call.Element == 0 ? ScalarType.Float32 : ScalarType.BFloat16);
        into.Add(dx);
        fixed (int* rows = _rows)
        fixed (CpuLibrary.CrossEntropy* call = &_call)
        {
            call->Rows = rows;
            Open(ref call->Head, _head);
            call->Dlosses = (void*)TensorMemory.Of(gradient);
            call->Dx = (void*)TensorMemory.Of(dx);
            CpuLibrary.Check(CpuLibrary.mf_cross_entropy_backward(call));
        }
    }
}

/// <summary>The divergence of each stream from a teacher.</summary>
internal sealed unsafe class DivergenceCall : CpuCall
{
    private readonly Tensor _x;
    private readonly Tensor _teacher;
    private readonly Tensor _head;
    private readonly int[]? _rows;
    private CpuLibrary.Divergence _call;

    public DivergenceCall(
        Tensor input, Tensor x, Tensor teacher, Tensor head, int[] rows, bool isShared, int student, double temperature)
    {
        (_x, _teacher, _head) = (x, teacher, head);
        _rows = isShared ? null : rows;
        Inputs = [input];
        InputCount = 1;
        Weights = [head];
        long[] shape = x.shape;
        _call = new CpuLibrary.Divergence
        {
            Element = ElementOf(x.dtype),
            Batch = shape[0],
            Time = shape[1],
            Width = shape[2],
            TeacherWidth = teacher.shape[2],
            Streams = rows.Length,
            Student = student,
            Temperature = temperature,
            Head = Native(head),
            X = (void*)TensorMemory.Of(x),
            Teacher = (void*)TensorMemory.Of(teacher),
        };
    }

    public override Tensor Forward(bool isRecorded)
    {
        var losses = empty(_call.Streams, ScalarType.Float32);
        _call.Losses = (void*)TensorMemory.Of(losses);
        if (isRecorded)
        {
            Keep(_x);
            Keep(_teacher);
        }

        fixed (int* rows = _rows)
        fixed (CpuLibrary.Divergence* call = &_call)
        {
            call->Rows = rows;
            CpuLibrary.Check(CpuLibrary.mf_divergence_forward(call));
        }

        return losses;
    }

    protected override void Backward(Tensor gradient, List<Tensor> into)
    {
        var dx = empty([_call.Batch, _call.Time, _call.Width], _call.Element == 0 ? ScalarType.Float32 : ScalarType.BFloat16);
        into.Add(dx);
        fixed (int* rows = _rows)
        fixed (CpuLibrary.Divergence* call = &_call)
        {
            call->Rows = rows;
            Open(ref call->Head, _head);
            call->Dlosses = (void*)TensorMemory.Of(gradient);
            call->Dx = (void*)TensorMemory.Of(dx);
            CpuLibrary.Check(CpuLibrary.mf_divergence_backward(call));
        }
    }
}
