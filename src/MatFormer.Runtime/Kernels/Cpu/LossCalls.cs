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

    public CrossEntropyCall(Tensor x, Tensor head, Tensor targets, int[] rows, bool isShared)
        : base([x], head)
    {
        (_x, _head, _targets) = (Dense(x), head, Dense(targets));
        _rows = isShared ? null : rows;
        long[] shape = x.shape;
        _call = new CpuLibrary.CrossEntropy
        {
            Element = ElementOf(x.dtype),
            Batch = shape[0],
            Time = shape[1],
            Width = shape[2],
            Streams = rows.Length,
            Head = Native(head),
            X = (void*)TensorMemory.Of(_x),
            Targets = (void*)TensorMemory.Of(_targets),
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
            call->Head = Native(_head, withGradient: true);
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

    public DivergenceCall(Tensor x, Tensor teacher, Tensor head, int[] rows, bool isShared, int student, double temperature)
        : base([x], head)
    {
        (_x, _teacher, _head) = (Dense(x), Dense(teacher), head);
        _rows = isShared ? null : rows;
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
            X = (void*)TensorMemory.Of(_x),
            Teacher = (void*)TensorMemory.Of(_teacher),
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
            call->Head = Native(_head, withGradient: true);
            call->Dlosses = (void*)TensorMemory.Of(gradient);
            call->Dx = (void*)TensorMemory.Of(dx);
            CpuLibrary.Check(CpuLibrary.mf_divergence_backward(call));
        }
    }
}
