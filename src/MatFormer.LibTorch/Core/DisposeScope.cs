namespace TorchSharp;

/// <summary>
/// Disposes the tensors that were made while it was the thread's current scope. Scopes nest, and belong to one thread: do not
/// hold one across an await.
/// </summary>
public sealed class DisposeScope : IDisposable
{
    private DisposeScopeManager? manager;
    private HashSet<IDisposable> disposables = new(ReferenceEqualityComparer.Instance);

    internal DisposeScope(DisposeScopeManager manager)
    {
        this.manager = manager;
        OuterScope = manager.CurrentDisposeScope;
    }

    /// <summary>A copy of what is in the scope now.</summary>
    public IReadOnlyList<IDisposable> DisposablesView
    {
        get
        {
            ThrowIfDisposed();
            return [.. disposables];
        }
    }

    public int DisposablesCount
    {
        get
        {
            ThrowIfDisposed();
            return disposables.Count;
        }
    }

    internal DisposeScope? OuterScope { get; set; }

    public T MoveToOuter<T>(T disposable)
        where T : IDisposable => MoveToOther(OuterScope, disposable);

    public (T1 first, T2 second) MoveToOuter<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable => MoveToOther(OuterScope, first, second);

    public (T1 first, T2 second, T3 third) MoveToOuter<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable => MoveToOther(OuterScope, first, second, third);

    public void MoveToOuter(params IDisposable[] disposables) => MoveToOther(OuterScope, (IEnumerable<IDisposable>)disposables);

    public void MoveToOuter(IEnumerable<IDisposable> disposables) => MoveToOther(OuterScope, disposables);

    /// <summary>Moves it to <paramref name="scope"/>, or out of every scope when that is null.</summary>
    public T MoveToOther<T>(DisposeScope? scope, T disposable)
        where T : IDisposable
    {
        MoveOne(scope, disposable);
        return disposable;
    }

    public (T1 first, T2 second) MoveToOther<T1, T2>(DisposeScope? scope, T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable
    {
        MoveOne(scope, first);
        MoveOne(scope, second);
        return (first, second);
    }

    public (T1 first, T2 second, T3 third) MoveToOther<T1, T2, T3>(DisposeScope? scope, T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable
    {
        MoveOne(scope, first);
        MoveOne(scope, second);
        MoveOne(scope, third);
        return (first, second, third);
    }

    public void MoveToOther(DisposeScope? scope, params IDisposable[] disposables) =>
        MoveToOther(scope, (IEnumerable<IDisposable>)disposables);

    public void MoveToOther(DisposeScope? scope, IEnumerable<IDisposable> disposables)
    {
        foreach (var disposable in disposables)
        {
            MoveOne(scope, disposable);
        }
    }

    /// <summary>Takes it out of every scope: it lives until it is disposed, or until the garbage collector finds it.</summary>
    public T Detach<T>(T disposable)
        where T : IDisposable => MoveToOther(null, disposable);

    public (T1 first, T2 second) Detach<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable => MoveToOther(null, first, second);

    public (T1 first, T2 second, T3 third) Detach<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable => MoveToOther(null, first, second, third);

    public void Detach(params IDisposable[] disposables) => MoveToOther(null, (IEnumerable<IDisposable>)disposables);

    public void Detach(IEnumerable<IDisposable> disposables) => MoveToOther(null, disposables);

    public void Attach(IDisposable disposable)
    {
        ThrowIfDisposed();
        AttachOne(disposable);
    }

    public void Attach(params IDisposable[] disposables) => _ = Attach((IEnumerable<IDisposable>)disposables);

    public IReadOnlyList<IDisposable> Attach(IEnumerable<IDisposable> disposables)
    {
        ThrowIfDisposed();
        var attached = new List<IDisposable>();
        foreach (var disposable in disposables)
        {
            AttachOne(disposable);
            attached.Add(disposable);
        }

        return attached;
    }

    public void DisposeEverything()
    {
        ThrowIfDisposed();
        DisposeAll(disposables);
    }

    /// <summary>Disposes what is in the scope but not in <paramref name="inKeep"/>, which stays in the scope.</summary>
    public void DisposeEverythingBut(IEnumerable<IDisposable> inKeep)
    {
        ThrowIfDisposed();
        var doomed = disposables;
        disposables = new HashSet<IDisposable>(ReferenceEqualityComparer.Instance);
        foreach (var disposable in inKeep)
        {
            if (doomed.Remove(disposable))
            {
                disposables.Add(disposable);
            }
        }

        DisposeAll(doomed);
    }

    public void DisposeEverythingBut(params IDisposable[] keep) => DisposeEverythingBut((IEnumerable<IDisposable>)keep);

    public T DisposeEverythingBut<T>(T keep)
        where T : IDisposable
    {
        DisposeEverythingBut([keep]);
        return keep;
    }

    public (T1 first, T2 second) DisposeEverythingBut<T1, T2>(T1 first, T2 second)
        where T1 : IDisposable
        where T2 : IDisposable
    {
        DisposeEverythingBut([first, second]);
        return (first, second);
    }

    public (T1 first, T2 second, T3 third) DisposeEverythingBut<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable
        where T2 : IDisposable
        where T3 : IDisposable
    {
        DisposeEverythingBut([first, second, third]);
        return (first, second, third);
    }

    public bool Contains(IDisposable disposable) => disposables.Contains(disposable);

    /// <summary>Takes out what was disposed by other means.</summary>
    public void MarkAsDisposed(IDisposable disposable)
    {
        ThrowIfDisposed();
        Forget(disposable);
    }

    public void Dispose()
    {
        if (manager is null)
        {
            return;
        }

        DisposeAll(disposables);
        manager.Remove(this);
        manager = null;
    }

    internal void Add(torch.Tensor tensor)
    {
        disposables.Add(tensor);
        tensor.OwningDisposeScope = this;
    }

    internal void Forget(IDisposable disposable)
    {
        disposables.Remove(disposable);
        if (disposable is torch.Tensor tensor)
        {
            tensor.OwningDisposeScope = null;
        }
    }

    private static void DisposeAll(HashSet<IDisposable> doomed)
    {
        foreach (var disposable in doomed)
        {
            // Unhooked first: disposing must not change the set that is walked.
            if (disposable is torch.Tensor tensor)
            {
                tensor.OwningDisposeScope = null;
            }

            disposable.Dispose();
        }

        doomed.Clear();
    }

    private void MoveOne(DisposeScope? scope, IDisposable disposable)
    {
        ThrowIfDisposed();
        if (ReferenceEquals(scope, this) || !disposables.Remove(disposable))
        {
            return;
        }

        if (disposable is torch.Tensor tensor)
        {
            tensor.OwningDisposeScope = null;
        }

        scope?.AttachOne(disposable);
    }

    private void AttachOne(IDisposable disposable)
    {
        if (disposable is not torch.Tensor tensor)
        {
            throw new InvalidOperationException($"A DisposeScope holds tensors only, not a {disposable.GetType().Name}.");
        }

        if (!ReferenceEquals(tensor.OwningDisposeScope, this))
        {
            tensor.OwningDisposeScope?.Forget(tensor);
            Add(tensor);
        }
    }

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(manager is null, this);
}

/// <summary>The scopes of one thread.</summary>
public class DisposeScopeManager
{
    [ThreadStatic]
    private static DisposeScopeManager? singleton;

    internal static DisposeScopeManager ThreadSingleton => singleton ??= new DisposeScopeManager();

    /// <summary>The current thread's innermost scope, without making a manager where there is none.</summary>
    internal static DisposeScope? Current => singleton?.CurrentDisposeScope;

    internal DisposeScope? CurrentDisposeScope { get; private set; }

    internal DisposeScope NewDisposeScope() => CurrentDisposeScope = new DisposeScope(this);

    /// <summary>Takes a scope out of the chain, wherever in it.</summary>
    internal void Remove(DisposeScope scope)
    {
        if (ReferenceEquals(CurrentDisposeScope, scope))
        {
            CurrentDisposeScope = scope.OuterScope;
            return;
        }

        for (var inner = CurrentDisposeScope; inner is not null; inner = inner.OuterScope)
        {
            if (ReferenceEquals(inner.OuterScope, scope))
            {
                inner.OuterScope = scope.OuterScope;
                return;
            }
        }
    }
}

public static partial class torch
{
    /// <summary>The thread's innermost scope, or null.</summary>
    public static DisposeScope? CurrentDisposeScope => DisposeScopeManager.Current;

    /// <summary>Opens a scope: tensors that this thread makes from now on are disposed with it.</summary>
    public static DisposeScope NewDisposeScope() => DisposeScopeManager.ThreadSingleton.NewDisposeScope();

    /// <summary>Runs <paramref name="expr"/> in a scope of its own, from which only the result comes out.</summary>
    public static Tensor WrappedTensorDisposeScope(Func<Tensor> expr)
    {
        using var scope = NewDisposeScope();
        return expr().MoveToOuterDisposeScope();
    }
}
