using MatFormer;

return await ModelProgram.RunAsync<ApiSearch>(args, ServeCommand.For<ApiSearch>());
