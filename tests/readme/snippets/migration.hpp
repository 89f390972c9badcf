extern const json a;
extern const json b;
void handle(const json& order);
