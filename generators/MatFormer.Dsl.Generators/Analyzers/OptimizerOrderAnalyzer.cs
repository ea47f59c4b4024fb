using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace MatFormer.Generators.Analyzers;

/// <summary>Finds optimizers and trainers that are built before their model moves. A move replaces the parameters by new objects.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class OptimizerOrderAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [MisuseDescriptors.BuiltBeforeMove];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Analyze, OperationKind.Invocation, OperationKind.ObjectCreation);
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        var built = context.Operation;
        var isTrainer = built is IObjectCreationOperation && Operations.IsOurs(built.Type, "Trainer");
        if (!isTrainer && !Operations.IsOptimizer(built.Type)) return;
        if (Handed(built, isTrainer) is not { Model: var model, At: var at }) return;

        var function = built.Function();
        var after = function.Descendants().Where(o => o.Function() == function && o.Syntax.SpanStart >= built.Syntax.Span.End).ToList();
        var move = after.OfType<IInvocationOperation>().FirstOrDefault(call =>
            call.TargetMethod.Name is "to" or "cuda" && Is(call.Receiver(), model) && Operations.IsModel(call.Receiver()!.Type));

        // Report only if the move certainly follows, moves the same object, and no new optimizer or trainer is built after it.
        if (move is null
            || !Encloses(Block(built), move)
            || after.Any(o => o is IAssignmentOperation set && Is(set.Target, model) && set.Syntax.Span.End <= move.Syntax.SpanStart)
            || after.Any(o => o is IReturnOperation or IBranchOperation
                && o.Syntax.SpanStart < move.Syntax.SpanStart && Block(o) == Block(built))
            || after.Any(o => o.Syntax.SpanStart > move.Syntax.SpanStart && SymbolEqualityComparer.Default.Equals(o.Type, built.Type)
                && Handed(o, isTrainer) is { Model: var again } && SymbolEqualityComparer.Default.Equals(again, model)))
        {
            return;
        }

        var call = model.Name + "." + move.TargetMethod.Name;
        context.ReportDiagnostic(Diagnostic.Create(
            MisuseDescriptors.BuiltBeforeMove, at.Syntax.GetLocation(), call, isTrainer ? "trainer" : "optimizer"));
    }

    // Returns the variable of the model whose parameters are passed, and the argument that passes them.
    private static (ISymbol Model, IOperation At)? Handed(IOperation built, bool isTrainer)
    {
        var arguments = built switch
        {
            IObjectCreationOperation creation => creation.Arguments,
            IInvocationOperation call => call.Arguments,
            _ => [],
        };
        foreach (var argument in arguments)
        {
            if (isTrainer && argument.Value.Variable() is { } trained && Operations.IsModel(argument.Value.Bare().Type))
                return (trained, argument.Value);
            if (isTrainer) continue;
            foreach (var call in argument.Descendants().OfType<IInvocationOperation>())
            {
                if (call.TargetMethod.Name is "parameters" or "named_parameters"
                    && Operations.IsModel(call.Receiver()?.Type)
                    && call.Receiver().Variable() is { } model)
                {
                    return (model, call);
                }
            }
        }

        return null;
    }

    private static bool Is(IOperation? operation, ISymbol variable) =>
        SymbolEqualityComparer.Default.Equals(operation.Variable(), variable);

    private static IOperation? Block(IOperation operation)
    {
        var block = operation.Parent;
        while (block is not (null or IBlockOperation or ISwitchCaseOperation)) block = block.Parent;
        return block;
    }

    private static bool Encloses(IOperation? block, IOperation operation)
    {
        for (var outer = operation.Parent; outer is not null; outer = outer.Parent)
        {
            if (outer == block) return true;
        }

        return false;
    }
}
