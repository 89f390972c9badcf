extern pgque::testing::Queue queue;
