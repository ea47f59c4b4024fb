using MatFormer;

ImageFiles.Register(); // classify, serve and --data read PNG, JPEG and WebP
return await ModelProgram.RunAsync<DigitsViT>(args, ServeCommand.For<DigitsViT>());
