extern const json a;
extern const json b;
extern const json c;
extern const pgque::Event f;
extern const pgque::Event g;
extern const std::string traceparent;
void inject(pgque::Headers& headers);
void inject_trace(pgque::Event& event);
void count_events(pgque::Event& event);
