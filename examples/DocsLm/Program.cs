using MatFormer;

return await ModelProgram.RunAsync<DocsLm>(args, ServeCommand.For<DocsLm>());
