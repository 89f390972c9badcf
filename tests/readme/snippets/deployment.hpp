std::string fresh_token();
