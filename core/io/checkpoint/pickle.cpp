// A stack machine for pickles (Python's pickletools describes every opcode) that builds nodes only.
#include "io/checkpoint/pickle.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "io/checkpoint/pickle_opcodes.hpp"
#include "io/plain_text.hpp"

namespace dkdm::io::pickle {
namespace {

// Memory is bounded by these, however a pickle refers to itself; a real one of 10,000 tensors has
// about 2 MB and 300,000 nodes.
constexpr std::uint64_t kPickleLimit = std::numeric_limits<std::uint32_t>::max();  // bytes
constexpr std::size_t kNodeLimit = std::size_t{1} << 22;           // nodes, stack and memo entries
constexpr std::uint64_t kReferenceLimit = std::uint64_t{1} << 24;  // items of all containers
constexpr std::uint64_t kNameLimit = 1000;                         // bytes of a global's name
constexpr std::uint64_t kLineLimit = std::uint64_t{1} << 20;  // of a number or text of protocol 0

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

}  // namespace

Pickle::Pickle(const MappedFile& file, std::uint64_t begin, std::uint64_t end, std::string name)
    : file_(file), begin_(begin), name_(std::move(name)) {
  // A stream goes on after its pickle, so what is too long is found when it is reached.
  bytes_ = file.view(begin, std::min(end - begin, kPickleLimit));
  run();
}

std::string Pickle::where(std::uint64_t position) const {
  const std::string text = at_byte(file_.path(), begin_ + position);
  return name_.empty() ? text : text + " (" + name_ + ")";
}

void Pickle::fail(const std::string& message) const { throw DataError(where(opcode_at_), message); }

void Pickle::run() {
  for (;;) {
    opcode_at_ = position_;
    const auto opcode = static_cast<unsigned char>(take(1)[0]);
    if (opcode_at_ == 0 && opcode != kProto) fail("not a pickle of protocol 2 or later");
    if (opcode == kStop) break;
    if (run_scalar(opcode) || run_line(opcode) || run_container(opcode) || run_memo(opcode) ||
        run_object(opcode)) {
      continue;
    }
    fail(opcode_name(opcode) + " is none of pickle's");
  }
  root_ = pop();
  if (!stack_.empty()) fail("the pickle ends with more than one value");
}

bool Pickle::run_scalar(unsigned char opcode) {
  switch (opcode) {
    case kProto: {
      const int version = static_cast<unsigned char>(take(1)[0]);
      if (version > 5) {
        fail("pickle protocol " + std::to_string(version) + " is not read, only those up to 5");
      }
      return true;
    }
    case kFrame: take_number<std::uint64_t>(); return true;  // a hint for readers of streams
    case kNone: push(make(Kind::none)); return true;
    case kNewTrue:
    case kNewFalse:
      push(make(Kind::boolean));
      nodes_.back().number = opcode == kNewTrue;
      return true;
    case kBinInt: push_integer(take(4)); return true;
    case kBinInt1:
      push(make(Kind::integer));
      nodes_.back().number = static_cast<unsigned char>(take(1)[0]);
      return true;
    case kBinInt2:
      push(make(Kind::integer));
      nodes_.back().number = take_number<std::uint16_t>();
      return true;
    case kLong1: push_integer(take(static_cast<unsigned char>(take(1)[0]))); return true;
    case kLong4: push_integer(take(take_number<std::uint32_t>())); return true;
    case kBinFloat: {  // big-endian
      std::string bytes(take(8));
      std::reverse(bytes.begin(), bytes.end());
      push(make(Kind::real));
      nodes_.back().number = little_endian<std::int64_t>(bytes.data());
      return true;
    }
    case kBinUnicode: push_text(take(take_number<std::uint32_t>())); return true;
    case kShortBinUnicode: push_text(take(static_cast<unsigned char>(take(1)[0]))); return true;
    case kBinString: push_string(take(take_number<std::uint32_t>())); return true;
    case kShortBinString: push_string(take(static_cast<unsigned char>(take(1)[0]))); return true;
    case kBinUnicode8: push_text(take(take_number<std::uint64_t>())); return true;
    case kBinBytes:
    case kShortBinBytes:
    case kBinBytes8:
    case kByteArray8: {
      const std::string_view bytes =
          take(opcode == kShortBinBytes ? static_cast<unsigned char>(take(1)[0])
               : opcode == kBinBytes    ? std::uint64_t{take_number<std::uint32_t>()}
                                        : take_number<std::uint64_t>());
      push(make(Kind::bytes));
      nodes_.back().data = bytes;
      return true;
    }
    case kNextBuffer: push(make(Kind::bytes)); return true;  // it lies outside of the file
    case kReadonlyBuffer: top(); return true;
    default: return false;
  }
}

// Protocol 0 writes numbers and texts as lines.
bool Pickle::run_line(unsigned char opcode) {
  switch (opcode) {
    case kInt:
    case kLong: {
      std::string_view line = take_line(kLineLimit);
      if (opcode == kLong && line.ends_with('L')) line.remove_suffix(1);
      const bool boolean = opcode == kInt && (line == "00" || line == "01");
      std::int64_t value = 0;
      const bool fits = parse_whole(line, value);
      push(make(boolean ? Kind::boolean : fits ? Kind::integer : Kind::big_integer));
      nodes_.back().number = value;
      if (!fits) nodes_.back().data = line;
      return true;
    }
    case kFloat: {
      double value = 0;
      if (!parse_whole(take_line(kLineLimit), value)) fail("a number is none");
      push(make(Kind::real));
      nodes_.back().number = std::bit_cast<std::int64_t>(value);
      return true;
    }
    case kString: {  // Python's repr: its quotes are no part of it, escapes stay as they are
      std::string_view line = take_line(kLineLimit);
      if (line.size() >= 2) line = line.substr(1, line.size() - 2);
      push_string(line);
      return true;
    }
    case kUnicode: push_text(take_line(kLineLimit)); return true;
    case kGet:
    case kPut: {
      std::uint64_t index = 0;
      if (!parse_whole(take_line(kNameLimit), index)) fail("a memo entry's number is none");
      opcode == kGet ? recall(index) : remember(index);
      return true;
    }
    default: return false;
  }
}

bool Pickle::run_container(unsigned char opcode) {
  switch (opcode) {
    case kMark:
      if (marks_.size() >= kNodeLimit) fail("too many open marks");
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      // Python drops the mark where it is the last thing on the stack.
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case kPopMark: pop_to_mark(); return true;
    case kDup: push(top()); return true;
    case kEmptyList: push(make(Kind::list)); return true;
    case kEmptyDict: push(make(Kind::dict)); return true;
    case kEmptyTuple: push(make(Kind::tuple)); return true;
    case kEmptySet: push(make(Kind::set)); return true;
    case kTuple: push(make_items(Kind::tuple, pop_to_mark())); return true;
    case kList: push(make_items(Kind::list, pop_to_mark())); return true;
    case kFrozenSet: push(make_items(Kind::set, pop_to_mark())); return true;
    case kDict: {
      auto items = pop_to_mark();
      if (items.size() % 2 != 0) fail("a dictionary's key has no value");
      push(make_items(Kind::dict, std::move(items)));
      return true;
    }
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      std::vector<Ref> items(opcode - kTuple1 + 1u);
      for (std::size_t i = items.size(); i-- > 0;) items[i] = pop();
      push(make_items(Kind::tuple, std::move(items)));
      return true;
    }
    case kAppend:
    case kAppends:
    case kAddItems: add_items(opcode); return true;
    case kSetItem:
    case kSetItems: {
      std::vector<Ref> items;
      if (opcode == kSetItem) {
        const Ref value = pop();
        items = {pop(), value};
      } else {
        items = pop_to_mark();
      }
      if (items.size() % 2 != 0) fail("a dictionary's key has no value");
      set_items(items);
      return true;
    }
    default: return false;
  }
}

// Adds to a list or set, or to an object that will be like one (a deque, a subclass).
void Pickle::add_items(unsigned char opcode) {
  const auto items = opcode == kAppend ? std::vector<Ref>{pop()} : pop_to_mark();
  const Ref target = top();
  const Kind kind = nodes_[target].kind, own = opcode == kAddItems ? Kind::set : Kind::list;
  if (kind == own) return append(target, items);
  if (kind != Kind::call) fail("adds an item to what is no list");
  append(part(target, Node::kElements, Kind::list), items);
}

void Pickle::set_items(const std::vector<Ref>& items) {
  const Ref target = top();
  const Kind kind = nodes_[target].kind;
  if (kind == Kind::dict) return append(target, items);
  if (kind != Kind::call) fail("sets an item of what is no dictionary");
  append(part(target, Node::kEntries, Kind::dict), items);
}

// The dictionary or list of what was added to an object after it was made.
Ref Pickle::part(Ref call, std::size_t position, Kind kind) {
  if (nodes_[call].items.size() <= position) nodes_[call].items.resize(position + 1, kNothing);
  if (nodes_[call].items[position] == kNothing) {
    const Ref made = make(kind);
    nodes_[call].items[position] = made;
  }
  return nodes_[call].items[position];
}

bool Pickle::run_memo(unsigned char opcode) {
  switch (opcode) {
    case kBinPut: remember(static_cast<unsigned char>(take(1)[0])); return true;
    case kLongBinPut: remember(take_number<std::uint32_t>()); return true;
    case kMemoize: remember(memo_.size()); return true;
    case kBinGet: recall(static_cast<unsigned char>(take(1)[0])); return true;
    case kLongBinGet: recall(take_number<std::uint32_t>()); return true;
    default: return false;
  }
}

bool Pickle::run_object(unsigned char opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string_view module = take_line(kNameLimit);
      push_global(module, take_line(kNameLimit));
      return true;
    }
    case kStackGlobal: {
      const Node& name = nodes_[pop()];
      const Node& module = nodes_[pop()];
      if (name.kind != Kind::text || module.kind != Kind::text) fail("a global's name is no text");
      push_global(module.data, name.data);
      return true;
    }
    case kExt1:
      take(1);
      push_global("copyreg", "extension");
      return true;
    case kExt2:
      take(2);
      push_global("copyreg", "extension");
      return true;
    case kExt4:
      take(4);
      push_global("copyreg", "extension");
      return true;
    case kPersId: {
      push_text(take_line(kLineLimit));
      const Ref id = pop();
      push(make_items(Kind::persistent, {id}));
      return true;
    }
    case kBinPersId: {
      const Ref id = pop();
      push(make_items(Kind::persistent, {id}));
      return true;
    }
    case kReduce:
    case kNewObj: {
      const Ref arguments = pop();
      make_object(pop(), arguments);
      return true;
    }
    case kNewObjEx: {
      const Ref named = pop(), arguments = pop();
      make_object(pop(), arguments);
      if (nodes_[named].kind == Kind::dict) set_items(std::vector<Ref>(nodes_[named].items));
      return true;
    }
    case kInst: {
      const std::string_view module = take_line(kNameLimit);
      push_global(module, take_line(kNameLimit));
      const Ref function = pop();
      make_object(function, make_items(Kind::tuple, pop_to_mark()));
      return true;
    }
    case kObj: {
      auto items = pop_to_mark();
      if (items.empty()) fail("makes an object of no class");
      const Ref function = items.front();
      items.erase(items.begin());
      make_object(function, make_items(Kind::tuple, std::move(items)));
      return true;
    }
    case kBuild: build(); return true;
    default: return false;
  }
}

std::string_view Pickle::take(std::uint64_t bytes) {
  if (bytes > bytes_.size() - position_) {
    if (bytes_.size() >= kPickleLimit) {
      fail("a pickle of more than " + std::to_string(kPickleLimit) + " bytes is not read");
    }
    fail("needs " + std::to_string(bytes) + " more bytes, but the pickle has only " +
         std::to_string(bytes_.size() - position_) + " (truncated?)");
  }
  const std::string_view taken = bytes_.substr(position_, bytes);
  position_ += bytes;
  return taken;
}

template <class T>
T Pickle::take_number() {
  return little_endian<T>(take(sizeof(T)).data());
}

std::string_view Pickle::take_line(std::uint64_t limit) {
  const std::string_view rest = bytes_.substr(position_, limit);
  const std::size_t length = rest.find('\n');
  if (length == std::string_view::npos) fail("a line does not end (truncated?)");
  take(length + 1);
  return rest.substr(0, length);
}

Ref Pickle::make(Kind kind) {
  if (nodes_.size() >= kNodeLimit) {
    fail("more than " + std::to_string(kNodeLimit) + " values are not read");
  }
  nodes_.push_back({.kind = kind, .at = static_cast<std::uint32_t>(opcode_at_)});
  return static_cast<Ref>(nodes_.size() - 1);
}

void Pickle::push(Ref ref) {
  if (stack_.size() >= kNodeLimit) fail("more values are waiting than are read");
  stack_.push_back(ref);
}

Ref& Pickle::top() {
  const std::size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() <= floor) fail("takes a value where there is none");
  return stack_.back();
}

Ref Pickle::pop() {
  const Ref ref = top();
  stack_.pop_back();
  return ref;
}

std::vector<Ref> Pickle::pop_to_mark() {
  if (marks_.empty()) fail("goes back to a mark where there is none");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Ref> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

// Python writes lone surrogates as well, so not all of them are UTF-8.
void Pickle::push_text(std::string_view text) {
  push(make(Kind::text));
  nodes_.back().data = text;
}

// Python 2 has one type for texts and bytes.
void Pickle::push_string(std::string_view string) {
  push(make(is_utf8(string) ? Kind::text : Kind::bytes));
  nodes_.back().data = string;
}

void Pickle::push_integer(std::string_view bytes) {
  if (bytes.size() > sizeof(std::int64_t)) {
    push(make(Kind::big_integer));
    nodes_.back().data = bytes;
    return;
  }
  // Two's complement of any length, the sign in the last byte's highest bit.
  const bool negative = !bytes.empty() && (bytes.back() & 0x80);
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  push(make(Kind::integer));
  nodes_.back().number = static_cast<std::int64_t>(value);
}

// A new node that holds `items`; the caller pushes it.
Ref Pickle::make_items(Kind kind, std::vector<Ref> items) {
  count(items.size());
  const Ref ref = make(kind);
  nodes_[ref].items = std::move(items);
  return ref;
}

void Pickle::append(Ref container, const std::vector<Ref>& items) {
  count(items.size());
  auto& held = nodes_[container].items;
  held.insert(held.end(), items.begin(), items.end());
}

void Pickle::count(std::uint64_t references) {
  references_ += references;
  if (references_ > kReferenceLimit) {
    fail("containers of more than " + std::to_string(kReferenceLimit) + " items are not read");
  }
}

void Pickle::remember(std::uint64_t index) {
  const Ref ref = top();
  if (index >= kNodeLimit) fail("memo entry " + std::to_string(index) + " is not read");
  if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
  memo_[index] = ref;
}

void Pickle::recall(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNothing) {
    fail("asks for memo entry " + std::to_string(index) + ", which was never stored");
  }
  push(memo_[index]);
}

void Pickle::push_global(std::string_view module, std::string_view name) {
  const Ref owner = make(Kind::text);
  nodes_[owner].data = module;
  const Ref ref = make_items(Kind::global, {owner});
  push(ref);
  Node& node = nodes_[ref];
  node.data = name;
  for (const Global& one : kGlobals) {
    if (one.module == module && one.name == name) {
      node.role = one.role;
      return;
    }
  }
  constexpr std::string_view kStorage = "Storage";
  for (const ItemInfo& item : kItems) {
    if (module != "torch") break;
    const bool is_storage = !item.storage.empty() && name.ends_with(kStorage) &&
                            name.substr(0, name.size() - kStorage.size()) == item.storage;
    if (!is_storage && name != item.torch) continue;
    node.role = is_storage ? Role::storage_type : Role::dtype;
    node.item = item.type;
    return;
  }
}

// The entries of `argument`, a dictionary or a list of pairs; false where it is neither.
bool Pickle::add_entries(Ref dict, Ref argument) {
  const Node& given = nodes_[argument];
  if (given.kind == Kind::dict) {
    append(dict, std::vector<Ref>(given.items));
    return true;
  }
  if (given.kind != Kind::list && given.kind != Kind::tuple) return false;
  const auto is_pair = [&](Ref ref) {
    const Node& pair = nodes_[ref];
    return (pair.kind == Kind::list || pair.kind == Kind::tuple) && pair.items.size() == 2;
  };
  if (!std::all_of(given.items.begin(), given.items.end(), is_pair)) return false;
  for (const Ref pair : std::vector<Ref>(given.items)) {
    append(dict, std::vector<Ref>(nodes_[pair].items));
  }
  return true;
}

// What calling `function` would have made, or a class without its constructor.
void Pickle::make_object(Ref function, Ref arguments) {
  const Node& called = nodes_[function];
  const Role role = called.kind == Kind::global ? called.role : Role::unknown;
  if (nodes_[arguments].kind == Kind::tuple) {
    const std::vector<Ref> given = nodes_[arguments].items;
    if (role == Role::dictionary && given.size() <= 1) {
      // OrderedDict(), OrderedDict([(key, value), …]) as Python 2 writes it, Counter({…}).
      const Ref dict = make(Kind::dict);
      if (given.empty() || add_entries(dict, given[0])) return push(dict);
    }
    if (role == Role::default_dictionary) {  // (factory[, entries])
      const Ref dict = make(Kind::dict);
      if (given.size() < 2 || add_entries(dict, given[1])) return push(dict);
    }
    if (role == Role::set && given.size() <= 1) {
      if (given.empty()) return push(make(Kind::set));
      const Node& items = nodes_[given[0]];
      if (items.kind == Kind::list || items.kind == Kind::tuple) {
        return push(make_items(Kind::set, std::vector<Ref>(items.items)));
      }
    }
  }
  const Ref call = make_items(Kind::call, {arguments, function});
  nodes_[call].role = role;
  push(call);
}

// A state for an object. Attributes of a dictionary (a module's _metadata) say nothing about its
// tensors; what else takes a state is an object.
void Pickle::build() {
  const Ref state = pop();
  const Ref object = top();
  if (nodes_[object].kind != Kind::call) return;
  if (nodes_[object].items.size() < Node::kStates) {
    nodes_[object].items.resize(Node::kStates, kNothing);
  }
  append(object, {state});
}

}  // namespace dkdm::io::pickle
