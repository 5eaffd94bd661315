// A stack machine for pickles (Python's pickletools describes every opcode) that builds nodes only.
#include "io/pickle.hpp"

#include <algorithm>
#include <limits>

#include "io/pickle_opcodes.hpp"
#include "io/plain_text.hpp"

namespace dkdm::io::pickle {
namespace {

// Memory is bounded by these, however a pickle refers to itself; a real one of 10,000 tensors has
// about 2 MB and 300,000 nodes.
constexpr std::uint64_t kPickleLimit = std::uint64_t{1} << 26;   // bytes
constexpr std::size_t kNodeLimit = std::size_t{1} << 22;         // nodes, stack and memo entries
constexpr std::uint64_t kReferenceLimit = std::uint64_t{1} << 24;  // items of all containers
constexpr std::uint64_t kLineLimit = 1000;                       // bytes of a global's name
constexpr Ref kNothing = std::numeric_limits<Ref>::max();

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
    if (run_scalar(opcode) || run_container(opcode) || run_memo(opcode)) continue;
    run_object(opcode);
  }
  root_ = pop();
  if (!stack_.empty()) fail("the pickle ends with more than one value");
}

bool Pickle::run_scalar(unsigned char opcode) {
  switch (opcode) {
    case kProto: {
      const int version = static_cast<unsigned char>(take(1)[0]);
      if (version < 2 || version > 5) {
        fail("pickle protocol " + std::to_string(version) + " is not read, only 2 to 5");
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
      const std::string_view bytes = take(
          opcode == kShortBinBytes ? static_cast<unsigned char>(take(1)[0])
          : opcode == kBinBytes    ? std::uint64_t{take_number<std::uint32_t>()}
                                   : take_number<std::uint64_t>());
      push(make(Kind::bytes));
      nodes_.back().data = bytes;
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
    case kEmptyList: push(make(Kind::list)); return true;
    case kEmptyDict: push(make(Kind::dict)); return true;
    case kEmptyTuple: push(make(Kind::tuple)); return true;
    case kTuple: push_tuple(pop_to_mark()); return true;
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      std::vector<Ref> items(opcode - kTuple1 + 1u);
      for (std::size_t i = items.size(); i-- > 0;) items[i] = pop();
      push_tuple(std::move(items));
      return true;
    }
    case kAppend:
    case kAppends: {
      const auto items = opcode == kAppend ? std::vector<Ref>{pop()} : pop_to_mark();
      if (nodes_[top()].kind != Kind::list) fail("adds an item to what is no list");
      append(top(), items);
      return true;
    }
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
      if (nodes_[top()].kind != Kind::dict) fail("sets an item of what is no dictionary");
      append(top(), items);
      return true;
    }
    default: return false;
  }
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

void Pickle::run_object(unsigned char opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string_view module = take_line();
      push_global(module, take_line());
      return;
    }
    case kStackGlobal: {
      const Node& name = nodes_[pop()];
      const Node& module = nodes_[pop()];
      if (name.kind != Kind::text || module.kind != Kind::text) fail("a global's name is no text");
      push_global(module.data, name.data);
      return;
    }
    case kBinPersId: {
      const Ref id = pop();
      if (nodes_[id].kind != Kind::tuple) fail("a persistent id is no tuple");
      const Ref ref = make(Kind::persistent);
      append(ref, {id});
      push(ref);
      return;
    }
    case kReduce: reduce(); return;
    case kBuild: build(); return;
    default:
      fail(opcode_name(opcode) +
           " is not among those that a checkpoint of tensors needs; nothing of the file was run");
  }
}

std::string_view Pickle::take(std::uint64_t bytes) {
  if (bytes > bytes_.size() - position_) {
    if (bytes_.size() == kPickleLimit) {
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

std::string_view Pickle::take_line() {
  const std::string_view rest = bytes_.substr(position_, kLineLimit);
  const std::size_t length = rest.find('\n');
  if (length == std::string_view::npos) fail("a global's name does not end (truncated?)");
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

void Pickle::push_text(std::string_view text) {
  if (!is_utf8(text)) fail("a text is not UTF-8");
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

void Pickle::push_tuple(std::vector<Ref> items) {
  count(items.size());
  const Ref ref = make(Kind::tuple);
  nodes_[ref].items = std::move(items);
  push(ref);
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
  const Ref ref = make(Kind::global);
  Node& node = nodes_[ref];
  node.data = name;
  for (const Global& one : kGlobals) {
    if (one.module == module && one.name == name) {
      node.role = one.role;
      return push(ref);
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
    return push(ref);
  }
  fail("asks for the global " + shown(module) + "." + shown(name) +
       ", which is not on the list of what a checkpoint may name; nothing of the file was run");
}

void Pickle::reduce() {
  const Ref arguments = pop();
  const Node& function = nodes_[pop()];
  const bool callable =
      function.kind == Kind::global &&
      std::any_of(kGlobals.begin(), kGlobals.end(), [&](const Global& one) {
        return one.role == function.role && one.callable;
      });
  if (!callable || nodes_[arguments].kind != Kind::tuple) {
    fail("calls " +
         (function.kind == Kind::global ? shown(function.data) : std::string("a value")) +
         ", which is no function that a checkpoint may call; nothing of the file was run");
  }
  const Role role = function.role;
  if (role == Role::ordered_dict || role == Role::counter) {
    // OrderedDict(), OrderedDict([(key, value), …]) as Python 2 writes it, Counter({…}).
    const Ref dict = make(Kind::dict);
    for (const Ref argument : std::vector<Ref>(nodes_[arguments].items)) {
      const Node& given = nodes_[argument];
      if (given.kind == Kind::dict) {
        append(dict, std::vector<Ref>(given.items));
        continue;
      }
      if (given.kind != Kind::list) fail("a dictionary is made from what is no list of pairs");
      for (std::size_t i = 0; i < nodes_[argument].items.size(); ++i) {
        const Node& pair = nodes_[nodes_[argument].items[i]];
        if ((pair.kind != Kind::list && pair.kind != Kind::tuple) || pair.items.size() != 2) {
          fail("a dictionary is made from what is no list of pairs");
        }
        append(dict, std::vector<Ref>(pair.items));
      }
    }
    return push(dict);
  }
  const Ref call = make(Kind::call);
  nodes_[call].role = role;
  append(call, {arguments});
  push(call);
}

// A state for an object: attributes of an OrderedDict (a module's _metadata) say nothing about its
// tensors; numpy's arrays and types are filled by it.
void Pickle::build() {
  const Ref state = pop();
  Node& object = nodes_[top()];
  const bool numpy = object.kind == Kind::call && object.items.size() == 1 &&
                     (object.role == Role::numpy_dtype || object.role == Role::numpy_reconstruct);
  const Kind given = nodes_[state].kind;
  if (numpy && given == Kind::tuple) {
    append(top(), {state});
  } else if (object.kind != Kind::dict || (given != Kind::dict && given != Kind::tuple)) {
    fail("gives a state to an object that takes none");
  }
}

}  // namespace dkdm::io::pickle
